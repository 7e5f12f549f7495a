"""The attributes of a face, as in CelebA, and its surroundings, which are nuisance unless tasks conflict."""

from __future__ import annotations

from dataclasses import dataclass

ATTRIBUTES = (
    "5_o_Clock_Shadow", "Arched_Eyebrows", "Attractive", "Bags_Under_Eyes", "Bald", "Bangs", "Big_Lips", "Big_Nose",
    "Black_Hair", "Blond_Hair", "Blurry", "Brown_Hair", "Bushy_Eyebrows", "Chubby", "Double_Chin", "Eyeglasses",
    "Goatee", "Gray_Hair", "Heavy_Makeup", "High_Cheekbones", "Male", "Mouth_Slightly_Open", "Mustache",
    "Narrow_Eyes", "No_Beard", "Oval_Face", "Pale_Skin", "Pointy_Nose", "Receding_Hairline", "Rosy_Cheeks",
    "Sideburns", "Smiling", "Straight_Hair", "Wavy_Hair", "Wearing_Earrings", "Wearing_Hat", "Wearing_Lipstick",
    "Wearing_Necklace", "Wearing_Necktie", "Young",
)  # fmt: skip
HAIR_COLOURS = ("Black", "Brown", "Blond", "Gray", "Other")
TEXTURES = ("Straight", "Wavy", "Curly")
HAIRSTYLES = ("Crop", "Part", "Quiff", "Bob", "Long", "Bun")
FACIAL_HAIR = ("None", "Shadow", "Mustache", "Goatee", "Beard")


@dataclass(frozen=True)
class FaceAttributes:
    """The attributes of a face. Some fields exclude each other, and later ones give way: `labels` has what is visible.

    Attributes:
        person: decides everything about a person that is the same in all pictures and is no attribute.
        hair: one of `HAIR_COLOURS`; for a bald person, the colour of the brows and the beard.
        texture: one of `TEXTURES`.
        hairstyle: one of `HAIRSTYLES`.
        facial_hair: one of `FACIAL_HAIR`.
    """

    person: int = 0
    smiling: bool = False
    oval_face: bool = False
    bald: bool = False
    arched_eyebrows: bool = False
    big_lips: bool = False
    big_nose: bool = False
    facial_hair: str = "None"
    hair: str = "Brown"
    texture: str = "Straight"
    hairstyle: str = "Crop"
    bangs: bool = False
    receding_hairline: bool = False
    sideburns: bool = False
    pale_skin: bool = False
    chubby: bool = False
    double_chin: bool = False
    pointy_nose: bool = False
    bushy_eyebrows: bool = False
    narrow_eyes: bool = False
    bags_under_eyes: bool = False
    high_cheekbones: bool = False
    mouth_open: bool = False
    eyeglasses: bool = False
    hat: bool = False
    rosy_cheeks: bool = False
    makeup: bool = False
    lipstick: bool = False
    earrings: bool = False
    necktie: bool = False
    necklace: bool = False
    blurry: bool = False

    def labels(self) -> dict[str, bool]:
        """Return CelebA's 40 attributes, in its order, as the picture shows them.

        Attractive, Male and Young are not drawn: nobody has them. No_Beard means no facial hair at all.
        """
        beard = self.facial_hair == "Beard"
        shown = {
            "5_o_Clock_Shadow": self.facial_hair == "Shadow",
            "Arched_Eyebrows": self.arched_eyebrows,
            "Bags_Under_Eyes": self.bags_under_eyes,
            "Bald": self.bald,
            "Bangs": self.has_bangs,
            "Big_Lips": self.big_lips,
            "Big_Nose": self.big_nose,
            **{f"{colour}_Hair": self.hair == colour and not self.bald for colour in HAIR_COLOURS[:-1]},
            "Blurry": self.blurry,
            "Bushy_Eyebrows": self.bushy_eyebrows,
            "Chubby": self.is_chubby,
            "Double_Chin": self.has_double_chin,
            "Eyeglasses": self.eyeglasses,
            "Goatee": self.facial_hair == "Goatee",
            "Heavy_Makeup": self.makeup,
            "High_Cheekbones": self.high_cheekbones,
            "Mouth_Slightly_Open": self.mouth_open,
            "Mustache": self.facial_hair in ("Mustache", "Beard"),
            "Narrow_Eyes": self.narrow_eyes,
            "No_Beard": self.facial_hair == "None",
            "Oval_Face": self.oval_face,
            "Pale_Skin": self.pale_skin,
            "Pointy_Nose": self.has_pointy_nose,
            "Receding_Hairline": self.recedes and not self.hat,
            "Rosy_Cheeks": self.rosy_cheeks,
            "Sideburns": self.has_sideburns or beard,
            "Smiling": self.smiling,
            "Straight_Hair": self.texture == "Straight" and not self.bald,
            "Wavy_Hair": self.texture == "Wavy" and not self.bald,
            "Wearing_Earrings": self.earrings,
            "Wearing_Hat": self.hat,
            "Wearing_Lipstick": self.lipstick or self.makeup,
            "Wearing_Necklace": self.has_necklace,
            "Wearing_Necktie": self.necktie,
        }
        return {name: shown.get(name, False) for name in ATTRIBUTES}

    @property
    def has_bangs(self) -> bool:
        """Whether bangs are drawn."""
        return self.bangs and not self.bald

    @property
    def recedes(self) -> bool:
        """Whether the hairline is drawn receding, even under a hat."""
        return self.receding_hairline and not self.bald and not self.bangs

    @property
    def has_long_hair(self) -> bool:
        """Whether hair falls over the ears."""
        return self.hairstyle in ("Bob", "Long") and not self.bald

    @property
    def has_sideburns(self) -> bool:
        """Whether sideburns are drawn that are not part of a beard."""
        return self.sideburns and not self.bald and not self.has_long_hair

    @property
    def is_chubby(self) -> bool:
        """Whether the cheeks are drawn full."""
        return self.chubby and not self.oval_face

    @property
    def has_double_chin(self) -> bool:
        """Whether a second chin is drawn."""
        return self.double_chin and not self.oval_face and self.facial_hair not in ("Goatee", "Beard")

    @property
    def has_pointy_nose(self) -> bool:
        """Whether the nose is drawn narrow and pointed."""
        return self.pointy_nose and not self.big_nose

    @property
    def has_necklace(self) -> bool:
        """Whether a necklace is drawn."""
        return self.necklace and not self.necktie


@dataclass(frozen=True)
class Surroundings:
    """Nuisance unless tasks conflict: backdrop, clothes, light and exposure, each of two kinds."""

    warm_backdrop: bool
    bright_backdrop: bool
    warm_clothes: bool
    bright_clothes: bool
    striped_clothes: bool
    warm_light: bool
    bright_exposure: bool


# For each of the surroundings, the task whose label decides it as `conflict` rises (see `render_faces`).
CARRIERS = {
    "warm_backdrop": "Smiling",
    "bright_backdrop": "Bald",
    "warm_clothes": "5_o_Clock_Shadow",
    "bright_clothes": "Oval_Face",
    "striped_clothes": "Big_Lips",
    "warm_light": "Arched_Eyebrows",
    "bright_exposure": "Big_Nose",
}
