"""The labels of a shoe, as UT-Zappos50K spells them."""

from __future__ import annotations

from dataclasses import dataclass

CATEGORIES = ("Shoes", "Boots", "Sandals", "Slippers")
CLOSURES = ("Lace up", "Slip-On", "Zipper", "Hook and Loop", "Buckle")
GENDERS = ("Men", "Women", "Girls", "Boys")
HEELS = ("Flat", "Under 1in", "1in - 1 3/4in", "2in - 2 3/4in", "3in - 3 3/4in")


@dataclass(frozen=True)
class ShoeAttributes:
    """The four labels of a shoe, each one of `CATEGORIES`, `CLOSURES`, `GENDERS`, `HEELS`."""

    category: str
    closure: str
    gender: str
    heel: str

    @property
    def subcategory(self) -> str:
        """The official SubCategory that fits the four labels best."""
        high = HEELS.index(self.heel) >= 3
        if self.category == "Boots":
            return "Ankle"
        if self.category == "Sandals":
            return "Heel" if high else "Flat"
        if self.category == "Slippers":
            return "Slipper Heels" if high else "Slipper Flats"
        if high:
            return "Heels"
        by_closure = {"Lace up": "Oxfords", "Slip-On": "Loafers", "Hook and Loop": "Sneakers and Athletic Shoes"}
        return by_closure.get(self.closure, "Flats")
