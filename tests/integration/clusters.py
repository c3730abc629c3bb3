"""A Redis Cluster on this machine: its nodes, joined; slots that move; a node that fails."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import redis
from redis.crc import key_slot

from stream_detector.local.redis import SETTINGS, LocalRedis
from stream_detector.local.server import HOST

SLOTS = 16_384


class Node(LocalRedis):
    """One server of a cluster."""

    ports_needed = 2

    def _command(self) -> Sequence[str]:
        command = super()._command()
        lines = [
            "cluster-enabled yes",
            f"cluster-port {self._ports[1]}",
            "cluster-node-timeout 3000",
            "cluster-replica-validity-factor 0",
            "cluster-allow-replica-migration no",
            "repl-diskless-sync-delay 0",
        ]
        path = self.directory / SETTINGS
        path.write_text(path.read_text() + "\n".join(lines) + "\n")
        return command

    @property
    def client(self) -> Any:
        """To speak with this node alone."""
        return redis.Redis(HOST, self.port)

    @property
    def node_id(self) -> str:
        """Its name among the others."""
        return str(self.client.execute_command("CLUSTER MYID").decode())

    def meet(self, other: Node) -> None:
        """Make two nodes know each other."""
        self.client.execute_command("CLUSTER MEET", HOST, other.port, other._ports[1])


class Cluster:
    """Primaries that share the slots, and for each as many replicas."""

    def __init__(self, primaries: Sequence[Node], replicas: Sequence[Node]) -> None:
        self.primaries, self.replicas = list(primaries), list(replicas)

    @property
    def nodes(self) -> list[Node]:
        """All of them."""
        return [*self.primaries, *self.replicas]

    @property
    def url(self) -> str:
        """The address of one node."""
        return self.primaries[0].url

    def join(self) -> None:
        """Share the slots, and wait until all say that all is well."""
        shares = [SLOTS * i // len(self.primaries) for i in range(len(self.primaries) + 1)]
        for node, first, end in zip(self.primaries, shares, shares[1:], strict=False):
            node.client.execute_command("CLUSTER ADDSLOTSRANGE", first, end - 1)
        for node in self.nodes[1:]:
            self.primaries[0].meet(node)
        self._wait(
            lambda: all(len(self._known(node)) == len(self.nodes) for node in self.nodes), "they know each other"
        )
        for number, node in enumerate(self.replicas):
            node.client.execute_command("CLUSTER REPLICATE", self.primaries[number % len(self.primaries)].node_id)
        self.wait_until_well()

    def wait_until_well(self) -> None:
        """Wait until every node that runs sees all slots served, and every replica follows."""
        running = [node for node in self.nodes if node.is_running]
        self._wait(
            lambda: (
                all(b"cluster_state:ok" in self._asked(node, "CLUSTER INFO") for node in running)
                and all(b"master_link_status:down" not in self._asked(node, "INFO replication") for node in running)
            ),
            "the cluster is well",
        )

    def owner(self, key: str) -> Node:
        """The node that holds a key."""
        for node in self.nodes:
            if node.is_running and self._holds(node, key_slot(key.encode())):
                return node
        raise LookupError(key)

    def move(self, key: str, onto: Node) -> None:
        """Move the slot of a key to another node, key by key, as an operator's tool does."""
        slot, source = key_slot(key.encode()), self.owner(key)
        onto.client.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", source.node_id)
        source.client.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", onto.node_id)
        while keys := source.client.execute_command("CLUSTER GETKEYSINSLOT", slot, 1):
            source.client.execute_command("MIGRATE", HOST, onto.port, "", 0, 5000, "KEYS", *keys)
            time.sleep(0.02)  # meanwhile some keys of a partition are here and some there
        for node in (onto, source, *self.primaries):
            node.client.execute_command("CLUSTER SETSLOT", slot, "NODE", onto.node_id)

    @staticmethod
    def _asked(node: Node, command: str) -> bytes:
        client = redis.Redis(HOST, node.port)
        client.response_callbacks.clear()
        answer = client.execute_command(*command.split(" ")) if command.startswith("INFO") else None
        return bytes(answer if answer is not None else client.execute_command(command))

    def _known(self, node: Node) -> list[bytes]:
        return [line for line in self._asked(node, "CLUSTER NODES").splitlines() if b"handshake" not in line]

    def _holds(self, node: Node, slot: int) -> bool:
        for line in self._asked(node, "CLUSTER NODES").decode().splitlines():
            if "myself" in line and "master" in line:
                for share in line.split(" ")[8:]:
                    first, _, last = share.partition("-")
                    if first.isdigit() and int(first) <= slot <= int(last or first):
                        return True
        return False

    @staticmethod
    def _wait(true: Any, what: str, limit_s: float = 40) -> None:
        deadline = time.monotonic() + limit_s
        while not true():
            if time.monotonic() > deadline:
                raise TimeoutError(f"after {limit_s} s still not: {what}")
            time.sleep(0.1)


@contextmanager
def running_cluster(directory: Path, primaries: int = 3, replicas: int = 0) -> Iterator[Cluster]:
    """Run a cluster while the block lasts."""
    with ExitStack() as stack:
        nodes = [Node(directory / f"node-{number}", keep=True) for number in range(primaries + replicas)]
        for node in nodes:
            stack.callback(node.stop)
            node.launch()
        for node in nodes:
            node.wait()
        cluster = Cluster(nodes[:primaries], nodes[primaries:])
        cluster.join()
        yield cluster
