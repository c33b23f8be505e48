"""A mutation: a small change to a safety-critical function, and the test that must fail because of it."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Mutation:
    """A change of text.

    Attributes:
        name: What the mutated program does wrong.
        file: The file, from the root of the repository.
        old: Text that occurs once in the file.
        new: What replaces it.
        test: The pytest node that must fail, without parameters, or with those of a case.
    """

    name: str
    file: str
    old: str
    new: str
    test: str

    def problems(self, root: Path = ROOT) -> list[str]:
        """Why the mutation no longer fits the code; empty if it does."""
        return [*self._patch_problems(root), *self._test_problems(root)]

    def mutated(self, root: Path = ROOT) -> str:
        """The text of the mutated file."""
        return (root / self.file).read_text("utf-8").replace(self.old, self.new)

    def _patch_problems(self, root: Path) -> list[str]:
        path = root / self.file
        if not path.is_file():
            return [f"{self.file} does not exist"]
        count = path.read_text("utf-8").count(self.old)
        if count != 1:
            return [f"{self.file} holds the text {count} times instead of once: {self.old!r}"]
        if path.suffix == ".py":
            try:
                ast.parse(self.mutated(root))
            except SyntaxError as error:
                return [f"the mutated {self.file} is no Python: {error}"]
        return []

    def _test_problems(self, root: Path) -> list[str]:
        file, _, function = self.test.partition("::")
        name = function.partition("[")[0]
        if not (root / file).is_file():
            return [f"{file} does not exist"]
        tree = ast.parse((root / file).read_text("utf-8"))
        functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        return [] if name in functions else [f"{file} has no test {name}"]
