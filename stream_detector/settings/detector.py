"""Settings of how readings are judged, for all sensors and for those that match a pattern."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from stream_detector.settings.budget import SENSITIVITIES, Budget, parse_duration

FROZEN = ConfigDict(frozen=True, extra="forbid")
Sensitivity = Literal["low", "normal", "high"]


class DetectorSettings(BaseModel):
    """How readings are judged."""

    model_config = FROZEN

    model: Annotated[str, Field(description="a model's name, or the directory of an artifact")] = "multiscale"
    window: Annotated[int, Field(ge=8, le=4096, description="readings that a model looks at")] = 128
    stride: Annotated[
        int, Field(ge=1, description="readings between two scorings of a sensor: more is cheaper, and later")
    ] = 1
    budget: Annotated[str, Field(description="false alerts of one sensor that you accept")] = SENSITIVITIES["normal"]
    sensitivity: Annotated[
        Sensitivity | None,
        Field(description="one word instead of a budget: low (1 per 30d), normal (1 per 7d), high (1 per 1d)"),
    ] = None
    threshold: Annotated[
        str, Field(description="how a score becomes a decision: block-maximum, spot, dspot, fixed:X, quantile:Q")
    ] = "block-maximum"
    device: Annotated[str, Field(description="torch device: cpu, cuda, cuda:1, or auto")] = "auto"
    precision: Annotated[
        Literal["float32", "bfloat16", "float16"],
        Field(description="in which the model computes; less than float32 is quicker on a GPU, with coarser scores"),
    ] = "float32"

    @field_validator("budget")
    @classmethod
    def _readable(cls, value: str) -> str:
        return Budget.parse(value).text

    @model_validator(mode="after")
    def _one_of_both(self) -> DetectorSettings:
        _refuse_both(self.sensitivity, self.budget if "budget" in self.model_fields_set else None, self.threshold)
        return self

    @property
    def chosen_budget(self) -> str:
        """The budget, as given or as the sensitivity stands for."""
        return SENSITIVITIES[self.sensitivity] if self.sensitivity else self.budget


class IncidentSettings(BaseModel):
    """When an incident opens, is told again, and closes; counted in scored readings of its sensor."""

    model_config = FROZEN

    open_after: Annotated[int, Field(ge=1, description="exceedances in a row that open an incident")] = 1
    close_after: Annotated[int, Field(ge=1, description="calm readings in a row that close it")] = 10
    minimum_gap: Annotated[
        int, Field(ge=0, description="readings after a close within which a new exceedance opens nothing")
    ] = 0
    update_every: Annotated[int, Field(ge=1, description="readings after which a lasting incident is told again")] = 250
    time_out: Annotated[int, Field(ge=1, description="readings after which it is taken as the new normal")] = 1000
    group_within: Annotated[
        str, Field(description="sensors of a group that open within this span share one incident")
    ] = "5m"

    @field_validator("group_within")
    @classmethod
    def _readable(cls, value: str) -> str:
        parse_duration(value)
        return value


class QualitySettings(BaseModel):
    """When the readings themselves are at fault."""

    model_config = FROZEN

    silent_after: Annotated[
        float, Field(ge=0, description="usual intervals without a reading after which a sensor is silent; 0 is never")
    ] = 20.0
    stuck_after: Annotated[
        int,
        Field(
            ge=0,
            description="equal readings in a row (half as many missing ones) that are a fault, if unusual; 0 is never",
        ),
    ] = 25
    clock_ahead: Annotated[
        str, Field(description="a reading this far ahead of its arrival is set aside: the sensor's clock is wrong")
    ] = "1h"

    @field_validator("clock_ahead")
    @classmethod
    def _readable(cls, value: str) -> str:
        parse_duration(value)
        return value


class SensorSettings(BaseModel):
    """What differs for the sensors whose id matches a pattern; what is not given stays as it is for all."""

    model_config = FROZEN

    match: Annotated[str, Field(min_length=1, description="the sensors meant: * any text, ? any letter, [abc] one of")]
    channels: Annotated[tuple[str, ...] | None, Field(description="their channels, in order")] = None
    model: str | None = None
    stride: Annotated[int | None, Field(ge=1)] = None
    budget: str | None = None
    sensitivity: Sensitivity | None = None
    threshold: str | None = None
    group: Annotated[str | None, Field(description="sensors of one group share incidents")] = None
    labels: Annotated[dict[str, str], Field(description="what every alert of theirs carries")] = {}

    @field_validator("budget")
    @classmethod
    def _readable(cls, value: str | None) -> str | None:
        return None if value is None else Budget.parse(value).text

    @model_validator(mode="after")
    def _one_of_both(self) -> SensorSettings:
        _refuse_both(self.sensitivity, self.budget, self.threshold)
        return self


def _refuse_both(sensitivity: str | None, budget: str | None, threshold: str | None) -> None:
    if sensitivity and budget:
        raise ValueError("budget and sensitivity say the same thing: leave one of them out")
    if (sensitivity or budget) and threshold and threshold.startswith(("fixed", "quantile")):
        raise ValueError(f"the threshold {threshold} keeps no budget: leave out budget and sensitivity")
