"""Print the classes and how many adapters each has."""

from tests.load.generator.corpus.classes import CLASSES, VARIANTS

print("\n".join(f"{VARIANTS:3} {name}" for name in CLASSES))
print(len(CLASSES), "classes,", VARIANTS * len(CLASSES), "adapters")
