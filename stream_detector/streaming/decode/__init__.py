"""Messages of the readings topic -> columns of readings, and the messages that cannot be used with their reasons.

    decoder = Decoder(channels_of, Limits())
    decoded = decoder.decode(values)

The steps, a file each: bytes -> records (`shapes`, and `careful` for what is not plain), records -> lists
(`gathering`), lists -> columns (`decoder`), with the sensors met so far (`sensors`) and the times (`times`); packed
columns are only cut and joined (`packed`). The only work for each single reading is the decoding of its JSON;
everything else is done for all together. A message is used whole or not at all.
It knows neither Kafka nor what becomes of readings and rejected messages.
"""

from __future__ import annotations

from stream_detector.streaming.decode.decoder import Decoder
from stream_detector.streaming.decode.limits import Columns, Decoded, Limits, Rejected, ranks

__all__ = ["Columns", "Decoded", "Decoder", "Limits", "Rejected", "ranks"]
