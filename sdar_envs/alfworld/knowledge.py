"""Household tables of the generator: object classes, receptacle classes, what may be put where, usual places, rooms.

Data only. Class names, properties and `CAN_CONTAIN` agree with the official ALFWorld games; what is usual
(`USUAL_PLACES`, `ROOMS`) is our own estimate of a household, in small whole numbers. Classes are written as in ALFRED
(`SinkBasin`); `type_id` gives the name that a problem uses (`sinkbasintype`). Sliced things and paper towels, which no
playable official game has, are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

__all__ = [
    "CAN_CONTAIN",
    "CAN_HOLD",
    "CAPACITY",
    "CLEANABLE",
    "CONTAINERS",
    "COOLABLE",
    "FLOOR_THINGS",
    "HEATABLE",
    "HEIGHTS",
    "OBJECT_CLASSES",
    "OVERLAPS",
    "PICKUPABLE",
    "RECEPTACLE_CLASSES",
    "ROOMS",
    "SLICEABLE",
    "SMALL_ROOMS",
    "TOGGLEABLE",
    "USUAL_PLACES",
    "Room",
    "RoomName",
    "type_id",
    "usual_places",
]

RoomName = Literal["Kitchen", "LivingRoom", "Bedroom", "Bathroom"]


def type_id(class_: str) -> str:
    """Return the PDDL type of a class: `mugtype` for `Mug`."""
    return f"{class_.lower()}type"


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# -- properties of objects --------------------------------------------------------------------

_PRODUCE = _names("Apple Egg Lettuce Potato Tomato")
_FOOD = _PRODUCE | _names("Bread")
_CUTLERY = _names("ButterKnife Fork Knife Ladle Spatula Spoon")
_COOKWARE = _names("Pan Pot")
_DRINKWARE = _names("Cup Mug")
_TABLEWARE = _DRINKWARE | _names("Bowl Plate")
_SHAKERS = _names("PepperShaker SaltShaker")
_BOTTLES = _names("Glassbottle WineBottle")
_PENS = _names("Pen Pencil")
_POCKET = _names("CellPhone CreditCard KeyChain")
_WASHING = _names("Cloth DishSponge HandTowel SoapBar")
_BATHROOM = _WASHING | _names("Candle SoapBottle SprayBottle TissueBox ToiletPaper")
_ORNAMENTS = _names("Statue Vase")
_SPORTS = _names("BaseballBat BasketBall TennisRacket")

CLEANABLE = _PRODUCE | _CUTLERY | _COOKWARE | _TABLEWARE | _names("Cloth DishSponge Kettle SoapBar")
HEATABLE = (_FOOD - {"Lettuce"}) | _DRINKWARE | {"Plate"}
COOLABLE = _FOOD | _COOKWARE | _TABLEWARE | {"WineBottle"}
SLICEABLE = _FOOD
TOGGLEABLE = _names("DeskLamp FloorLamp")
CONTAINERS = _COOKWARE | _TABLEWARE | {"Box"}

# Receptacles that may be on a counter or table.
_THINGS = (
    _FOOD
    | _CUTLERY
    | _COOKWARE
    | _TABLEWARE
    | _SHAKERS
    | _BOTTLES
    | _PENS
    | _POCKET
    | _BATHROOM
    | _ORNAMENTS
    | _SPORTS
    | _names("AlarmClock Book Box CD Kettle Laptop Newspaper RemoteControl Watch WateringCan")
)
# Official problems let these be taken, though for some of them no receptacle is allowed afterwards.
PICKUPABLE = _THINGS | _names("PaperTowelRoll Pillow Plunger ScrubBrush TeddyBear Towel")

FLOOR_THINGS = _SPORTS | _names("Plunger ScrubBrush")
"""Objects that are mostly on the floor, in no receptacle."""

_SCENERY = _names(
    "Bathtub Blinds Boots Chair Curtains FloorLamp Footstool LaundryHamperLid LightSwitch Mirror Painting "
    "Poster ShowerDoor ShowerGlass Sink StoveKnob Window"
)
OBJECT_CLASSES: tuple[str, ...] = tuple(sorted(PICKUPABLE | _SCENERY | _names("DeskLamp HousePlant Television")))
"""All object classes, whether they can be taken or not."""

# -- what can lie in what ---------------------------------------------------------------------

_SEAT = _POCKET | _names("BasketBall Book Box Cloth Laptop Newspaper Pillow RemoteControl")
_DESK_TOP = (
    _TABLEWARE
    | _BOTTLES
    | _PENS
    | _POCKET
    | _ORNAMENTS
    | _names(
        "AlarmClock BasketBall Book Box CD Candle Cloth Laptop Newspaper RemoteControl SprayBottle TennisRacket "
        "TissueBox ToiletPaper Watch WateringCan"
    )
)
_SHELF = (
    _BATHROOM
    | _TABLEWARE
    | _SHAKERS
    | _BOTTLES
    | _PENS
    | _POCKET
    | _ORNAMENTS
    | _names("AlarmClock Book Box CD Kettle Newspaper Pot RemoteControl Watch WateringCan")
)

_ALLOWED: dict[str, frozenset[str]] = {
    "ArmChair": _SEAT,
    "BathtubBasin": _WASHING,
    "Bed": _SPORTS | _names("Book CellPhone Laptop Newspaper Pillow"),
    "Cabinet": _BATHROOM
    | _COOKWARE
    | _TABLEWARE
    | _SHAKERS
    | _BOTTLES
    | _names("Book Box CD Kettle Ladle Newspaper Plunger Vase WateringCan"),
    "Cart": _BATHROOM | _ORNAMENTS | _names("Mug Plunger"),
    "CoffeeMachine": _names("Mug"),
    "CoffeeTable": _THINGS,
    "CounterTop": _THINGS,
    "Desk": _DESK_TOP | {"SoapBottle"},
    "DiningTable": _THINGS,
    "Drawer": (_BATHROOM | _CUTLERY | _SHAKERS | _PENS | _POCKET)
    | _names("Book CD Newspaper RemoteControl Watch WateringCan"),
    "Dresser": _DESK_TOP,
    "Fridge": _FOOD | _COOKWARE | _TABLEWARE | _BOTTLES,
    "GarbageCan": _FOOD | _PENS | (_BATHROOM - {"Candle"}) | _names("CD Newspaper WineBottle"),
    "HandTowelHolder": _names("HandTowel"),
    "LaundryHamper": _names("Cloth"),
    "Microwave": (_FOOD - {"Lettuce"}) | _TABLEWARE | {"Glassbottle"},
    "Ottoman": _SEAT,
    "Safe": _POCKET | _ORNAMENTS | _names("CD Watch"),
    "Shelf": _SHELF,
    "SideTable": _THINGS,
    "SinkBasin": _PRODUCE | _CUTLERY | _COOKWARE | _TABLEWARE | _WASHING | _names("Glassbottle Kettle"),
    "Sofa": _SEAT,
    "StoveBurner": _COOKWARE | {"Kettle"},
    "TVStand": _names("TissueBox"),
    "Toaster": frozenset(),
    "Toilet": _BATHROOM | {"Newspaper"},
    "ToiletPaperHanger": _names("ToiletPaper"),
    "TowelHolder": _names("Towel"),
}

RECEPTACLE_CLASSES: tuple[str, ...] = tuple(sorted(_ALLOWED))
"""All receptacle classes: furniture that objects lie in or on."""

CAN_CONTAIN: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {receptacle: tuple(sorted(objects)) for receptacle, objects in _ALLOWED.items()}
)
"""Receptacle class -> object classes that may be put there."""

_TOOLS = _PRODUCE | _CUTLERY | {"DishSponge"}
_KNICK_KNACK = _PENS | _POCKET | _names("CD Candle Cloth Mug Watch")
CAN_HOLD: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        container: tuple(sorted(objects))
        for container, objects in {
            "Bowl": _TOOLS | _KNICK_KNACK | {"RemoteControl"},
            "Box": _PENS | _POCKET | _ORNAMENTS | _names("AlarmClock Book CD Candle Cloth RemoteControl Watch"),
            "Cup": _names("ButterKnife Fork Spoon"),
            "Mug": _PENS | _names("ButterKnife Fork KeyChain Knife Spoon Watch"),
            "Pan": _TOOLS,
            "Plate": _TOOLS | _KNICK_KNACK | _names("AlarmClock Book Glassbottle TissueBox"),
            "Pot": _TOOLS,
        }.items()
    }
)
"""Container class -> what is sometimes found inside such an object."""

# -- where things usually are -----------------------------------------------------------------

_FRESH = {
    "CounterTop": 6,
    "DiningTable": 5,
    "Fridge": 5,
    "SinkBasin": 3,
    "SideTable": 2,
    "GarbageCan": 1,
    "Microwave": 1,
}
_EATING = {"CounterTop": 6, "DiningTable": 5, "Drawer": 6, "SinkBasin": 2, "SideTable": 2}
_SHAKER = {"CounterTop": 4, "DiningTable": 3, "Cabinet": 5, "Drawer": 5, "Shelf": 2, "SideTable": 1}
_WRITING = {
    "Desk": 6,
    "Drawer": 4,
    "SideTable": 3,
    "Shelf": 3,
    "Dresser": 3,
    "DiningTable": 2,
    "CoffeeTable": 2,
    "CounterTop": 2,
    "GarbageCan": 1,
}
_SMALL = {
    "Desk": 4,
    "SideTable": 4,
    "Drawer": 3,
    "Dresser": 3,
    "CoffeeTable": 3,
    "Shelf": 3,
    "DiningTable": 3,
    "CounterTop": 3,
    "Safe": 2,
    "Sofa": 2,
    "ArmChair": 2,
    "Ottoman": 1,
}
_ON_SHOW = {
    "Shelf": 5,
    "SideTable": 4,
    "CoffeeTable": 4,
    "Dresser": 4,
    "DiningTable": 3,
    "CounterTop": 3,
    "Desk": 2,
    "Safe": 1,
    "Cart": 1,
}
_SPORT = {"Bed": 3, "Desk": 2, "SideTable": 2, "Dresser": 2, "CoffeeTable": 1}

USUAL_PLACES: dict[str, dict[str, int]] = {
    "AlarmClock": {"Desk": 5, "SideTable": 5, "Shelf": 4, "Dresser": 4, "DiningTable": 1, "CoffeeTable": 1},
    "Apple": _FRESH,
    "BaseballBat": {place: weight for place, weight in _SPORT.items() if place in {"Bed", "SideTable", "CoffeeTable"}},
    "BasketBall": _SPORT | {"ArmChair": 1, "Sofa": 1},
    "Book": {
        "Bed": 5,
        "Desk": 5,
        "Shelf": 4,
        "SideTable": 4,
        "CoffeeTable": 3,
        "Dresser": 3,
        "Sofa": 2,
        "ArmChair": 2,
        "Drawer": 2,
        "DiningTable": 2,
        "CounterTop": 2,
        "Cabinet": 1,
    },
    "Bowl": {
        "Cabinet": 7,
        "CounterTop": 4,
        "DiningTable": 4,
        "Shelf": 3,
        "Desk": 3,
        "Fridge": 2,
        "SinkBasin": 2,
        "SideTable": 2,
        "CoffeeTable": 2,
        "Dresser": 2,
        "Microwave": 1,
    },
    "Box": {
        "CoffeeTable": 4,
        "DiningTable": 4,
        "SideTable": 3,
        "Sofa": 3,
        "ArmChair": 3,
        "Dresser": 3,
        "Shelf": 3,
        "Desk": 3,
        "Ottoman": 2,
        "Cabinet": 2,
    },
    "Bread": {"CounterTop": 7, "DiningTable": 5, "SideTable": 2, "Fridge": 2, "GarbageCan": 1, "Microwave": 1},
    "ButterKnife": _EATING,
    "CD": {
        "Desk": 4,
        "Shelf": 4,
        "Drawer": 3,
        "SideTable": 3,
        "Dresser": 3,
        "Safe": 2,
        "GarbageCan": 2,
        "CoffeeTable": 2,
    },
    "Candle": {
        "CounterTop": 5,
        "Toilet": 4,
        "Cabinet": 3,
        "Drawer": 3,
        "SideTable": 3,
        "Shelf": 3,
        "CoffeeTable": 3,
        "Dresser": 2,
        "Cart": 2,
    },
    "CellPhone": _SMALL | {"Bed": 5},
    "Cloth": {
        "Cabinet": 4,
        "CounterTop": 4,
        "Drawer": 3,
        "BathtubBasin": 3,
        "SinkBasin": 2,
        "Toilet": 2,
        "Cart": 2,
        "Shelf": 2,
        "LaundryHamper": 2,
        "Dresser": 1,
        "GarbageCan": 1,
    },
    "CreditCard": _SMALL,
    "Cup": {
        "Cabinet": 7,
        "CounterTop": 5,
        "DiningTable": 3,
        "SinkBasin": 3,
        "Shelf": 2,
        "Fridge": 2,
        "SideTable": 2,
        "Microwave": 1,
    },
    "DeskLamp": {"Desk": 6, "SideTable": 5, "Dresser": 3, "Shelf": 1, "DiningTable": 1, "CoffeeTable": 1},
    "DishSponge": {
        "CounterTop": 5,
        "SinkBasin": 4,
        "Cabinet": 6,
        "Drawer": 2,
        "DiningTable": 1,
        "Shelf": 1,
        "BathtubBasin": 1,
        "Cart": 1,
        "Toilet": 1,
        "GarbageCan": 1,
    },
    "Egg": {"Fridge": 5, "CounterTop": 5, "DiningTable": 3, "SinkBasin": 3, "GarbageCan": 2, "Microwave": 1},
    "Fork": _EATING,
    "Glassbottle": {"Cabinet": 4, "CounterTop": 4, "Shelf": 3, "Fridge": 2, "DiningTable": 2, "SinkBasin": 1},
    "HandTowel": {"HandTowelHolder": 9, "CounterTop": 1, "Cabinet": 1},
    "HousePlant": {"CounterTop": 4, "Shelf": 3, "SideTable": 3, "DiningTable": 2, "CoffeeTable": 2, "Dresser": 2},
    "Kettle": {"StoveBurner": 6, "CounterTop": 4, "Cabinet": 3, "DiningTable": 1, "Shelf": 1, "SinkBasin": 1},
    "KeyChain": _SMALL,
    "Knife": _EATING | {"CounterTop": 9, "Drawer": 3},
    "Ladle": {"CounterTop": 5, "DiningTable": 3, "Drawer": 4, "Cabinet": 2, "SinkBasin": 2},
    "Laptop": {
        "Bed": 6,
        "Desk": 5,
        "CoffeeTable": 4,
        "Sofa": 4,
        "DiningTable": 4,
        "ArmChair": 2,
        "SideTable": 2,
        "Dresser": 2,
        "Ottoman": 1,
    },
    "Lettuce": {"CounterTop": 7, "Fridge": 5, "DiningTable": 4, "SinkBasin": 2, "SideTable": 1, "GarbageCan": 1},
    "Mug": {
        "CounterTop": 5,
        "Cabinet": 7,
        "Desk": 4,
        "CoffeeMachine": 3,
        "DiningTable": 3,
        "SideTable": 3,
        "Shelf": 3,
        "SinkBasin": 2,
        "Fridge": 2,
        "Dresser": 2,
        "Microwave": 1,
    },
    "Newspaper": {
        "CoffeeTable": 4,
        "Sofa": 4,
        "SideTable": 3,
        "ArmChair": 3,
        "DiningTable": 3,
        "Drawer": 2,
        "Dresser": 2,
        "Ottoman": 2,
        "Shelf": 2,
        "GarbageCan": 1,
        "Toilet": 1,
    },
    "Pan": {"StoveBurner": 8, "CounterTop": 5, "Cabinet": 5, "DiningTable": 2, "SinkBasin": 1, "Fridge": 1},
    "PaperTowelRoll": {"CounterTop": 4, "Shelf": 2, "DiningTable": 1, "Toilet": 2, "GarbageCan": 1},
    "Pen": _WRITING,
    "Pencil": _WRITING,
    "PepperShaker": _SHAKER,
    "Pillow": {"Bed": 7, "Sofa": 7, "ArmChair": 5, "Ottoman": 1},
    "Plate": {
        "Cabinet": 7,
        "CounterTop": 5,
        "DiningTable": 4,
        "SideTable": 2,
        "CoffeeTable": 2,
        "Shelf": 2,
        "SinkBasin": 2,
        "Fridge": 1,
        "Dresser": 1,
        "Microwave": 1,
    },
    "Plunger": {"Cabinet": 4, "Cart": 2},
    "Pot": {
        "StoveBurner": 8,
        "CounterTop": 4,
        "Cabinet": 5,
        "DiningTable": 2,
        "Shelf": 1,
        "SinkBasin": 1,
        "Fridge": 1,
    },
    "Potato": _FRESH | {"SinkBasin": 4},
    "RemoteControl": {
        "Sofa": 5,
        "CoffeeTable": 5,
        "ArmChair": 3,
        "SideTable": 4,
        "Dresser": 4,
        "Desk": 2,
        "Drawer": 2,
        "DiningTable": 2,
        "Shelf": 2,
        "Ottoman": 2,
    },
    "SaltShaker": _SHAKER,
    "SoapBar": {
        "SinkBasin": 4,
        "CounterTop": 4,
        "BathtubBasin": 3,
        "Cabinet": 3,
        "Toilet": 3,
        "Drawer": 2,
        "GarbageCan": 2,
        "Shelf": 1,
        "Cart": 1,
    },
    "SoapBottle": {
        "CounterTop": 5,
        "Cabinet": 7,
        "Toilet": 3,
        "GarbageCan": 2,
        "Drawer": 2,
        "Shelf": 2,
        "DiningTable": 1,
        "Cart": 1,
    },
    "Spatula": _EATING | {"SinkBasin": 3},
    "Spoon": _EATING,
    "SprayBottle": {
        "CounterTop": 5,
        "Cabinet": 4,
        "Toilet": 4,
        "GarbageCan": 2,
        "Shelf": 2,
        "Drawer": 2,
        "SideTable": 1,
        "Cart": 1,
    },
    "Statue": _ON_SHOW,
    "TeddyBear": {"Bed": 1},
    "Television": {"TVStand": 6, "Dresser": 2, "SideTable": 1, "Shelf": 1},
    "TennisRacket": _SPORT,
    "TissueBox": {
        "Desk": 3,
        "SideTable": 3,
        "CoffeeTable": 3,
        "CounterTop": 3,
        "Toilet": 3,
        "TVStand": 2,
        "Cabinet": 2,
        "Drawer": 2,
        "Dresser": 2,
        "Shelf": 2,
        "DiningTable": 2,
        "Cart": 1,
        "GarbageCan": 1,
    },
    "ToiletPaper": {
        "ToiletPaperHanger": 5,
        "Toilet": 5,
        "Cabinet": 4,
        "CounterTop": 3,
        "Drawer": 3,
        "Shelf": 1,
        "Cart": 1,
        "GarbageCan": 1,
    },
    "Tomato": _FRESH,
    "Towel": {"TowelHolder": 1},
    "Vase": _ON_SHOW,
    "Watch": {place: weight for place, weight in _SMALL.items() if place not in {"ArmChair", "Ottoman", "Sofa"}},
    "WateringCan": {"SideTable": 3, "CoffeeTable": 3, "DiningTable": 3, "Dresser": 2, "Shelf": 2, "Drawer": 1},
    "WineBottle": {"CounterTop": 4, "Cabinet": 4, "DiningTable": 3, "Fridge": 3, "Shelf": 2, "GarbageCan": 1},
}


_PLACES_BY_NAME: Mapping[str, Mapping[str, int]] = MappingProxyType(
    {
        **{class_: MappingProxyType(places) for class_, places in USUAL_PLACES.items()},
        **{
            class_.lower(): MappingProxyType({place.lower(): weight for place, weight in places.items()})
            for class_, places in USUAL_PLACES.items()
        },
    }
)
_NO_PLACES: Mapping[str, int] = MappingProxyType({})


def usual_places(object_class: str) -> Mapping[str, int]:
    """Return the usual places of an object class: receptacle class -> weight.

    The weight is that of the whole class: with five cabinets in the room, each has a fifth of it. Names are in the form
    of the argument: `Mug` gives `CoffeeMachine`, `mug`, as a player reads it, gives `coffeemachine`. Empty for unknown
    classes and those without a usual place, such as a window.
    """
    return _PLACES_BY_NAME.get(object_class, _NO_PLACES)


# -- furniture --------------------------------------------------------------------------------

CAPACITY: Mapping[str, int] = MappingProxyType(
    {
        "ArmChair": 3,
        "BathtubBasin": 3,
        "Cabinet": 4,
        "Cart": 4,
        "CoffeeMachine": 1,
        "Drawer": 3,
        "GarbageCan": 4,
        "HandTowelHolder": 1,
        "Microwave": 2,
        "Ottoman": 3,
        "Safe": 3,
        "Shelf": 4,
        "StoveBurner": 1,
        "TVStand": 2,
        "Toaster": 0,
        "Toilet": 4,
        "ToiletPaperHanger": 1,
        "TowelHolder": 1,
    }
)
"""Receptacle class -> how many things are there at most when a game begins. Others hold plenty."""

HEIGHTS: Mapping[str, tuple[int, ...]] = MappingProxyType(
    {
        "BathtubBasin": (7, 29),
        "Bed": (0,),
        "Cabinet": (39, 42, 39, 45, 178, 192, 214),
        "CoffeeMachine": (98, 104),
        "CounterTop": (95, 101),
        "DiningTable": (2, 68),
        "Drawer": (17, 39, 61, 83),
        "HandTowelHolder": (154, 157),
        "Microwave": (105, 111, 148),
        "Shelf": (20, 55, 83, 145, 181),
        "SinkBasin": (83, 87, 98),
        "StoveBurner": (93, 111),
        "Toaster": (98, 104),
        "ToiletPaperHanger": (85, 113),
        "TowelHolder": (121, 141),
    }
)
"""Receptacle class -> centimetres above the floor; drawers and shelves stack upwards. The others stand on it."""

OVERLAPS: tuple[tuple[str, str], ...] = (
    ("CounterTop", "CoffeeMachine"),
    ("CounterTop", "SinkBasin"),
    ("CounterTop", "StoveBurner"),
    ("StoveBurner", "StoveBurner"),
    ("Desk", "Shelf"),
    ("Desk", "Drawer"),
    ("Dresser", "Drawer"),
    ("SideTable", "Drawer"),
    ("SideTable", "Shelf"),
    ("CoffeeTable", "Ottoman"),
    ("Sofa", "ArmChair"),
    ("Bed", "Bed"),
    ("Shelf", "Shelf"),
    ("Cabinet", "Cabinet"),
    ("Drawer", "Drawer"),
    ("Toilet", "CounterTop"),
    ("BathtubBasin", "SinkBasin"),
)
"""Neighbouring furniture: a thing between the two can count as lying in both."""


@dataclass(frozen=True, slots=True)
class Room:
    """Contents of a kind of room.

    Attributes:
        receptacles: receptacle class -> possible numbers of them, all equally likely.
        scenery: the same for fixed objects that lie in no receptacle.
        objects: object class -> per cent of rooms that have such objects.
        doubles: per cent of games in which some object lies in two receptacles at once.
    """

    receptacles: Mapping[str, tuple[int, ...]]
    scenery: Mapping[str, tuple[int, ...]]
    objects: Mapping[str, int]
    doubles: int


_NEVER = (0,) * 14

ROOMS: Mapping[RoomName, Room] = MappingProxyType(
    {
        "Kitchen": Room(
            receptacles={
                "Cabinet": (4, 5, 6, 8, 9, 9, 10, 11, 12, 13, 13, 14, 15, 16, 18, 20, 21, 26),
                "CoffeeMachine": (1,),
                "CounterTop": (1, 2, 2, 2, 3, 3, 3, 4),
                "DiningTable": (0, 0, 1, 1, 1, 2),
                "Drawer": (2, 3, 3, 4, 4, 5, 6, 6, 7, 8, 9, 11, 12, 16),
                "Fridge": (1,),
                "GarbageCan": (1,),
                "Microwave": (1,),
                "Shelf": (0, 0, 0, 0, 0, 0, 0, 2, 3, 3),
                "SideTable": (0, 0, 0, 0, 0, 0, 0, 0, 0, 1),
                "SinkBasin": (1,),
                "StoveBurner": (4,),
                "Toaster": (1,),
            },
            scenery={
                "Blinds": (0, 0, 0, 0, 1),
                "Chair": (0, 1, 1, 2, 2, 3),
                "Curtains": (*_NEVER, 1),
                "LightSwitch": (1,),
                "StoveKnob": (4,),
                "Window": (0, 1, 1, 1, 2, 2, 2),
            },
            objects={
                **dict.fromkeys(sorted(_FOOD | _COOKWARE | _TABLEWARE | _SHAKERS | (_CUTLERY - {"Ladle"})), 100),
                "Book": 7,
                "CellPhone": 13,
                "CreditCard": 10,
                "DishSponge": 100,
                "Glassbottle": 25,
                "HousePlant": 33,
                "Kettle": 50,
                "Ladle": 33,
                "PaperTowelRoll": 33,
                "Pen": 7,
                "Pencil": 7,
                "SoapBottle": 100,
                "SprayBottle": 7,
                "Statue": 13,
                "Vase": 13,
                "WineBottle": 33,
            },
            doubles=60,
        ),
        "LivingRoom": Room(
            receptacles={
                "ArmChair": (0, 1, 1, 1, 1, 2, 2),
                "Cabinet": (0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 6),
                "CoffeeTable": (0, 1, 1, 1, 1, 2),
                "Desk": (*_NEVER, 1),
                "DiningTable": (0, 0, 1),
                "Drawer": (0, 0, 0, 1, 1, 2, 3, 4, 4, 5, 6, 7, 8, 12),
                "Dresser": (0, 0, 1),
                "GarbageCan": (1,),
                "Ottoman": (0, 0, 0, 0, 0, 0, 0, 0, 0, 1),
                "Safe": (*_NEVER, 1),
                "Shelf": (0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 3, 4, 6, 8, 12),
                "SideTable": (1, 1, 1, 2, 2, 3),
                "Sofa": (1, 1, 1, 2),
                "TVStand": (0, 0, 1),
            },
            scenery={
                "Boots": (0, 0, 0, 0, 0, 1),
                "Chair": (0, 0, 1, 2, 4),
                "Curtains": (0, 0, 0, 1, 2),
                "FloorLamp": (1,),
                "LightSwitch": (1, 1, 2),
                "Painting": (1, 1, 2, 3),
                "Window": (1, 1, 2, 2, 3),
            },
            objects={
                "Book": 25,
                "Bowl": 25,
                "Box": 100,
                "Candle": 15,
                "CellPhone": 25,
                "CreditCard": 100,
                "DeskLamp": 20,
                "HousePlant": 60,
                "KeyChain": 100,
                "Laptop": 100,
                "Newspaper": 40,
                "Pen": 17,
                "Pencil": 15,
                "Pillow": 100,
                "Plate": 25,
                "RemoteControl": 100,
                "Statue": 80,
                "Television": 30,
                "TissueBox": 20,
                "Vase": 40,
                "Watch": 35,
                "WateringCan": 30,
            },
            doubles=33,
        ),
        "Bedroom": Room(
            receptacles={
                "ArmChair": (0, 0, 0, 0, 1),
                "Bed": (1, 1, 1, 1, 1, 2),
                "Cabinet": (0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 4),
                "Desk": (0, 0, 1, 1, 1, 2),
                "DiningTable": (0, 0, 0, 0, 0, 1),
                "Drawer": (0, 2, 2, 2, 3, 3, 4, 5, 6, 7, 10, 11, 14),
                "Dresser": (0, 0, 1),
                "GarbageCan": (1,),
                "LaundryHamper": (0, 0, 0, 1),
                "Safe": (0, 0, 0, 0, 0, 1),
                "Shelf": (0, 0, 0, 1, 1, 2, 3, 5, 8),
                "SideTable": (0, 1, 1, 1, 2),
            },
            scenery={
                "Blinds": (0, 1, 1, 1, 2, 2),
                "Boots": (0, 0, 0, 0, 0, 0, 0, 0, 0, 1),
                "Chair": (0, 1, 1, 2),
                "Footstool": (*_NEVER, 1),
                "LightSwitch": (1,),
                "Mirror": (1,),
                "Painting": (0, 0, 1, 1, 2),
                "Poster": (0, 0, 0, 0, 1),
                "Window": (1, 1, 2, 2),
            },
            objects={
                "AlarmClock": 100,
                "BaseballBat": 35,
                "BasketBall": 25,
                "Book": 100,
                "Bowl": 33,
                "Box": 25,
                "CD": 100,
                "CellPhone": 100,
                "Cloth": 17,
                "CreditCard": 100,
                "DeskLamp": 50,
                "HousePlant": 15,
                "KeyChain": 100,
                "Laptop": 100,
                "Mug": 40,
                "Pen": 100,
                "Pencil": 100,
                "Pillow": 100,
                "RemoteControl": 7,
                "Statue": 8,
                "TeddyBear": 25,
                "Television": 10,
                "TennisRacket": 25,
                "TissueBox": 15,
                "Vase": 10,
                "Watch": 8,
            },
            doubles=45,
        ),
        "Bathroom": Room(
            receptacles={
                "BathtubBasin": (0, 1, 1),
                "Cabinet": (0, 0, 0, 0, 2, 3, 4, 4, 4),
                "Cart": (*_NEVER, 1),
                "CounterTop": (1, 1, 1, 2),
                "Drawer": (0, 0, 0, 0, 0, 1, 2, 4, 6),
                "Dresser": (*_NEVER, 1),
                "GarbageCan": (1,),
                "HandTowelHolder": (1, 1, 2),
                "Shelf": (0, 0, 0, 0, 0, 1, 2, 3),
                "SideTable": (*_NEVER, 1),
                "SinkBasin": (1, 1, 2),
                "Toilet": (1,),
                "ToiletPaperHanger": (1,),
                "TowelHolder": (1, 1, 2),
            },
            scenery={
                "LightSwitch": (1,),
                "Mirror": (1, 1, 2),
                "ShowerDoor": (0, 1),
                "ShowerGlass": (0, 0, 1),
                "Window": (0, 0, 1, 1),
            },
            objects={
                "Candle": 100,
                "Cloth": 100,
                "DishSponge": 20,
                "HandTowel": 100,
                "PaperTowelRoll": 15,
                "Plunger": 100,
                "ScrubBrush": 100,
                "SoapBar": 100,
                "SoapBottle": 100,
                "SprayBottle": 100,
                "TissueBox": 33,
                "ToiletPaper": 100,
                "Towel": 100,
            },
            doubles=25,
        ),
    }
)
"""The four kinds of room."""

SMALL_ROOMS: Mapping[RoomName, Room] = MappingProxyType(
    {
        "Kitchen": Room(
            receptacles={
                "Cabinet": (1, 1, 2),
                "CounterTop": (1,),
                "DiningTable": (0, 1),
                "Drawer": (1,),
                "Fridge": (1,),
                "Microwave": (1,),
                "SinkBasin": (1,),
            },
            scenery={},
            objects=dict.fromkeys(
                (
                    "Apple",
                    "Bread",
                    "Cup",
                    "Egg",
                    "Fork",
                    "Knife",
                    "Lettuce",
                    "Mug",
                    "Plate",
                    "Potato",
                    "Spoon",
                    "Tomato",
                ),
                30,
            ),
            doubles=0,
        ),
        "LivingRoom": Room(
            receptacles={
                "ArmChair": (0, 1),
                "CoffeeTable": (1,),
                "Drawer": (1, 1, 2),
                "Shelf": (0, 1),
                "SideTable": (1,),
                "Sofa": (1,),
            },
            scenery={},
            objects=dict.fromkeys(
                ("Book", "Box", "CreditCard", "KeyChain", "Laptop", "Newspaper", "RemoteControl", "Vase", "Watch"), 35
            ),
            doubles=0,
        ),
        "Bedroom": Room(
            receptacles={
                "Bed": (1,),
                "Desk": (1,),
                "Drawer": (1, 1, 2),
                "Dresser": (0, 1),
                "Shelf": (0, 1),
                "SideTable": (1,),
            },
            scenery={},
            objects=dict.fromkeys(
                ("AlarmClock", "Book", "CD", "CellPhone", "CreditCard", "KeyChain", "Laptop", "Mug", "Pen", "Pencil"),
                35,
            ),
            doubles=0,
        ),
        "Bathroom": Room(
            receptacles={
                "Cabinet": (1, 1, 2),
                "CounterTop": (1,),
                "Drawer": (0, 1),
                "GarbageCan": (1,),
                "SinkBasin": (1,),
                "Toilet": (1,),
            },
            scenery={},
            objects=dict.fromkeys(
                ("Candle", "Cloth", "DishSponge", "SoapBar", "SoapBottle", "SprayBottle", "ToiletPaper"), 45
            ),
            doubles=0,
        ),
    }
)
"""The four kinds of room with few objects: tasks that a small model can learn."""
