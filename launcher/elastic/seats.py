"""Decides on which node the process of a slot starts next. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence


class Seats:
    """The nodes of an elastic run's slots.

    Slots that were planned on a node, its *home*, stay together: if their node is lost, a spare node takes them all.
    """

    def __init__(self, homes: Sequence[str], spare: Sequence[str] = ()) -> None:
        """Begin as planned.

        Args:
            homes: The planned node of each slot.
            spare: Nodes without ranks.
        """
        self._homes, self._spare = tuple(homes), tuple(spare)
        self._node_of = {home: home for home in homes}
        self._avoided: set[str] = set()
        self._empty: set[int] = set()

    def welcome(self, nodes: Collection[str]) -> None:
        """Note nodes that have come to the run; unknown ones are spare."""
        known = {*self._spare, *self._homes, *self._node_of.values()}
        self._spare += tuple(sorted(set(nodes) - known))

    def node(self, slot: int) -> str:
        """Return the node on which a slot's process runs, or ran last."""
        return self._node_of[self._homes[slot]]

    def home(self, slot: int) -> str:
        """Return the planned node of a slot."""
        return self._homes[slot]

    def is_empty(self, slot: int) -> bool:
        """Whether no process takes the slot any more."""
        return slot in self._empty

    def candidates(self, slots: Collection[int]) -> frozenset[str]:
        """Return the nodes on which processes of these slots could start, if the nodes are usable."""
        wanted = {node for slot in slots for node in (self._homes[slot], self.node(slot))}
        return frozenset((wanted | self._free()) - self._avoided)

    def seat(self, slot: int, usable: Collection[str]) -> str | None:
        """Return where the slot's next process starts; ``None`` as long as no node can take it.

        Its node counts first, then its home, which may have come back, then a spare node.
        """
        if slot in self._empty:
            return None
        home = self._homes[slot]
        for node in (self.node(slot), home, *self._spare):
            is_free = node in (self.node(slot), home) or node in self._free()
            if is_free and node in usable and node not in self._avoided:
                self._node_of[home] = node
                return node
        return None

    def avoid(self, slot: int) -> tuple[int, ...]:
        """Avoid the place of a slow rank; return the slots whose processes have to end.

        If a node is spare, it takes all slots of the slow rank's node. Else the slot stays empty.
        """
        if not self._free() - self._avoided:
            self._empty.add(slot)
            return (slot,)
        self._avoided.add(self.node(slot))
        return tuple(other for other, home in enumerate(self._homes) if home == self._homes[slot])

    def _free(self) -> frozenset[str]:
        return frozenset(self._spare) - set(self._node_of.values())
