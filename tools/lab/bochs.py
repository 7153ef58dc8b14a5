"""The multi-node lab: Bochs."""

from image import LabError


class Machine:
    def __init__(self, plan, folder):
        raise LabError("Bochs is not wired up yet: use --sim tcg")
