"""The converter process of the registry: answers samples with versions, and converts versions to other formats."""
