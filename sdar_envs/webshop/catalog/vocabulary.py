"""Words of the embedded catalogue: departments, groups of products, attributes, options, sentences.

All of it is invented for this project: no brand, sentence or product of a real shop. Tables only; what is
made of them is in `generator`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

__all__ = [
    "BRAND_ENDS",
    "BRAND_STARTS",
    "CLOSINGS",
    "DEPARTMENTS",
    "GLUED_COLORS",
    "LINES",
    "NOT_NOUNS",
    "ONLY_FOR",
    "OPTION_VALUES",
    "PLAIN_COLORS",
    "REMARKS",
    "SHADES",
    "TITLE_EXTRAS",
    "Department",
    "Group",
    "Kind",
]


@dataclass(frozen=True, slots=True)
class Kind:
    """Kind of product, such as `desk lamps`.

    Attributes:
        query: the label, in the plural; what shoppers type.
        names: what titles call one of it, such as `Desk Lamp`.
    """

    query: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """Group of kinds with the same options, attributes and sentences.

    Attributes:
        path: the two middle pieces of the category path.
        kinds: what belongs to it.
        qualities: attributes that stand before the name: `fragrance free`.
        parts: attributes that follow `with`: `shea butter`.
        uses: attributes that follow `for`: `dry hair`.
        prices: dollars, from and to.
        option_sets: sets of option names with a whole-number weight; a product has one of them.
        optional: products with options, in per cent.
        facts: sentences about any of its products, none of which names an attribute.
        audiences: whom titles and queries address; empty for everyone.
    """

    path: tuple[str, str]
    kinds: tuple[Kind, ...]
    qualities: tuple[str, ...]
    parts: tuple[str, ...]
    uses: tuple[str, ...]
    prices: tuple[int, int]
    option_sets: Mapping[tuple[str, ...], int]
    optional: int
    facts: tuple[str, ...]
    audiences: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Department:
    """One of the five departments.

    Attributes:
        name: as in the official files: `beauty`.
        root: the first piece of the category path.
        weight: its products among 1,000.
        qualities: attributes that any product of the department may have.
        facts: sentences that fit all its products.
        groups: its groups.
    """

    name: str
    root: str
    weight: int
    qualities: tuple[str, ...]
    facts: tuple[str, ...]
    groups: tuple[Group, ...]


def _list(text: str) -> tuple[str, ...]:
    return tuple(text.split(", "))


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _kinds(text: str) -> tuple[Kind, ...]:
    """Read `query: Name, Name; query: Name`."""
    pairs = (kind.split(": ") for kind in text.split("; "))
    return tuple(Kind(query, _list(names)) for query, names in pairs)


def _sets(**weights: int) -> Mapping[tuple[str, ...], int]:
    """Read `color__size=3`: a single underscore stands for a blank, a double one parts two options."""
    return MappingProxyType(
        {tuple(name.replace("_", " ") for name in names.split("__")): weight for names, weight in weights.items()}
    )


_HAIR = Group(
    path=("Hair Care", "Washing and Styling"),
    kinds=_kinds(
        "shampoos: Shampoo, Hair Wash, Cleansing Shampoo; conditioners: Conditioner, Rinse Out Conditioner; "
        "hair masks: Hair Mask, Overnight Hair Mask; hair oils: Hair Oil, Finishing Oil; "
        "styling gels: Styling Gel, Curl Gel; dry shampoos: Dry Shampoo, Shampoo Powder; "
        "scalp scrubs: Scalp Scrub, Scalp Exfoliant; hair sprays: Hair Spray, Setting Spray; "
        "leave in creams: Leave In Cream, Curl Cream"
    ),
    qualities=_list("sulfate free, color safe, volumizing, anti frizz, lightweight, silicone free, heat protecting"),
    parts=_list("argan oil, coconut milk, rice protein, tea tree oil, aloe juice, honey extract"),
    uses=_list("dry hair, curly hair, oily roots, damaged ends, fine hair"),
    prices=(6, 38),
    option_sets=_sets(size=7, scent=3, scent__size=1),
    optional=20,
    facts=(
        "Two pumps are enough for shoulder length.",
        "Rinse with lukewarm water and let it dry in the air.",
        "Shake once, share it out with the fingers and comb through.",
        "The bottle stands on its cap, so the last drop comes out.",
    ),
)

_SKIN = Group(
    path=("Skin Care", "Face and Body"),
    kinds=_kinds(
        "face creams: Face Cream, Day Cream, Moisturizing Cream; face serums: Face Serum, Serum Drops; "
        "sheet masks: Sheet Mask, Face Mask; body lotions: Body Lotion, Body Milk; "
        "lip balms: Lip Balm, Lip Butter; hand creams: Hand Cream, Hand Balm; "
        "facial cleansers: Facial Cleanser, Foaming Cleanser; eye patches: Eye Patches, Eye Gel Pads; "
        "body scrubs: Body Scrub, Sugar Scrub; sun lotions: Sun Lotion, Sun Milk"
    ),
    qualities=_list("fragrance free, dermatologist tested, oil free, fast absorbing, non greasy, vegan, alcohol free"),
    parts=_list("hyaluronic acid, shea butter, green tea, rose water, oat extract, vitamin c"),
    uses=_list("sensitive skin, dry skin, fine lines, dark circles, mature skin"),
    prices=(6, 45),
    option_sets=_sets(size=7, scent=2, color=2),
    optional=15,
    facts=(
        "A pea of it covers the whole face.",
        "Warm it between the palms and pat it on, mornings and evenings.",
        "Try it on the inside of the elbow first.",
        "The jar closes tight and fits the small pocket of a wash bag.",
    ),
)

_MAKEUP = Group(
    path=("Makeup", "Face, Eyes and Lips"),
    kinds=_kinds(
        "lipsticks: Lipstick, Lip Crayon; eyeliners: Eyeliner Pen, Eyeliner Pencil; "
        "eyeshadow palettes: Eyeshadow Palette, Shadow Palette; mascaras: Mascara, Lash Mascara; "
        "makeup brushes: Makeup Brush Set, Brush Set; blushes: Powder Blush, Cream Blush; "
        "makeup mirrors: Makeup Mirror, Vanity Mirror; makeup bags: Makeup Bag, Cosmetic Pouch; "
        "nail polishes: Nail Polish, Gel Polish"
    ),
    qualities=_list("waterproof, cruelty free, long wearing, smudge proof, highly pigmented, travel size, matte"),
    parts=_list("jojoba oil, soft bristles, rose gold trim, mica powder, vitamin e, magnetic lid"),
    uses=_list("sensitive eyes, evening looks, beginners, stage use, daily touch ups"),
    prices=(5, 40),
    option_sets=_sets(color=14, color__size=1, color__style=2),
    optional=34,
    facts=(
        "Build it up layer by layer until the shade is yours.",
        "Comes off with warm water and a soft cloth.",
        "Store it upright, away from the window.",
        "Photographed in daylight without a filter.",
    ),
)

_GROOMING = Group(
    path=("Tools and Accessories", "Grooming"),
    kinds=_kinds(
        "hair clippers: Hair Clipper, Hair Trimmer; nail kits: Nail Care Kit, Manicure Set; "
        "hair brushes: Hair Brush, Detangling Brush; hair rollers: Hair Roller Set, Curler Set; "
        "tweezers: Tweezer Set, Slanted Tweezers; massage rollers: Massage Roller, Face Roller; "
        "shower caps: Shower Cap, Bath Cap; hair bands: Hair Band Set, Headband Set; "
        "wigs: Shoulder Length Wig, Bob Wig, Wavy Wig; spa towels: Spa Towel, Salon Towel"
    ),
    qualities=_list("stainless steel, rechargeable, easy to clean, rust proof, anti slip, foldable, quick drying"),
    parts=_list("carrying case, bamboo handle, ceramic blade, elastic rim, cushioned pad, spare comb"),
    uses=_list("thick hair, hair salons, home spas, nail art, sensitive scalps"),
    prices=(6, 70),
    option_sets=_sets(color=10, color__size=5, size=2),
    optional=32,
    facts=(
        "Every edge is rounded by hand before it is packed.",
        "Wipe it with a damp cloth after use.",
        "The instructions have large pictures and few words.",
        "Weighs less than a cup of tea.",
    ),
)

_ORAL = Group(
    path=("Oral Care", "Teeth and Breath"),
    kinds=_kinds(
        "toothbrushes: Toothbrush, Toothbrush Set; toothpastes: Toothpaste, Tooth Gel; "
        "mouthwashes: Mouthwash, Mouth Rinse; dental flosses: Dental Floss, Floss Picks; "
        "whitening strips: Whitening Strips, Teeth Whitening Kit; tongue scrapers: Tongue Scraper, Tongue Cleaner; "
        "water flossers: Water Flosser, Oral Irrigator"
    ),
    qualities=_list("fluoride free, bpa free, extra gentle, clinically tested, portable, biodegradable"),
    parts=_list("charcoal bristles, peppermint oil, travel cover, xylitol, coconut oil"),
    uses=_list("sensitive teeth, fresh breath, stained teeth, bleeding gums, braces"),
    prices=(5, 42),
    option_sets=_sets(color=6, flavor=4, size=4),
    optional=18,
    facts=(
        "Two minutes, morning and night, is all it asks for.",
        "Sealed in paper rather than plastic.",
        "Replace it with the seasons.",
        "A family of four gets through a box in a quarter of a year.",
    ),
)

_FRAGRANCE = Group(
    path=("Fragrance", "Scents and Bath"),
    kinds=_kinds(
        "perfumes: Eau De Parfum, Perfume Spray; deodorants: Deodorant Stick, Roll On Deodorant; "
        "body mists: Body Mist, Body Spray; bath salts: Bath Salts, Soaking Salts; "
        "bar soaps: Bar Soap, Soap Bar Set; bath bombs: Bath Bomb Set, Bath Fizzers; essential oils: Essential Oil, "
        "Diffuser Oil Set"
    ),
    qualities=_list("aluminum free, long lasting, plant based, hand poured, paraben free, mild"),
    parts=_list("sea salt, lavender oil, cedar oil, citrus peel, dried petals"),
    uses=_list("sore muscles, gift giving, sensitive noses, sports bags, bedtime baths"),
    prices=(7, 60),
    option_sets=_sets(scent=6, size=4, scent__size=1),
    optional=24,
    facts=(
        "Opens fresh and settles into something warmer after an hour.",
        "Blended in lots that carry a date.",
        "Keeps its note for two years in a dark drawer.",
        "Wrapped in tissue that can be used again.",
    ),
)

_AUDIO = Group(
    path=("Audio", "Headphones and Speakers"),
    kinds=_kinds(
        "wireless earbuds: Wireless Earbuds, Earphones; headphones: Over Ear Headphones, Studio Headphones; "
        "bluetooth speakers: Bluetooth Speaker, Outdoor Speaker; sound bars: Sound Bar, Television Sound Bar; "
        "record players: Record Player, Vinyl Turntable; microphones: Desk Microphone, Clip Microphone; "
        "clock radios: Clock Radio, Bedside Radio; shelf speakers: Shelf Speaker Pair, Bookshelf Speakers"
    ),
    qualities=_list("noise cancelling, water resistant, hands free, high definition, easy to pair, fast charging"),
    parts=_list("stereo sound, charging case, deep bass, usb port, volume knob, built in microphone"),
    uses=_list("running, small rooms, home offices, podcasts, long flights"),
    prices=(15, 520),
    option_sets=_sets(color=12, color__size=1, style=3, color__style=2),
    optional=34,
    facts=(
        "Pairs once and remembers the last eight devices.",
        "A full charge lasts through a working day.",
        "Voices stay clear even on a windy platform.",
        "The knobs turn with a soft click that can be felt in the dark.",
    ),
)

_PHONES = Group(
    path=("Phones and Tablets", "Accessories"),
    kinds=_kinds(
        "phone cases: Phone Case, Phone Cover; tablet cases: Tablet Case, Tablet Sleeve; "
        "screen protectors: Screen Protector, Tempered Screen Film; power banks: Power Bank, Battery Pack; "
        "phone mounts: Phone Mount, Car Phone Holder; charging cables: Charging Cable, Charger Cord; "
        "wall chargers: Wall Charger, Plug Charger; watch bands: Watch Band, Watch Strap; "
        "ring lights: Ring Light, Selfie Light; tripods: Phone Tripod, Tabletop Tripod"
    ),
    qualities=_list("shock absorbing, heavy duty, scratch resistant, ultra slim, wireless charging, easy to install"),
    parts=_list("tempered glass, card slots, kickstand, braided cable, raised edges, quick release"),
    uses=_list("video calls, road trips, right handed users, two devices, bedside tables"),
    prices=(7, 60),
    option_sets=_sets(color=12, color__size=6, size=2, pattern_name=3),
    optional=40,
    facts=(
        "All ports and buttons stay within reach.",
        "Dropped a hundred times on a tiled floor in our test corner.",
        "Goes on in seconds and leaves no residue when it comes off.",
        "A cleaning cloth is folded into the lid.",
    ),
)

_VIDEO = Group(
    path=("Television and Video", "Screens and Cameras"),
    kinds=_kinds(
        "projectors: Mini Projector, Home Projector; projector screens: Projector Screen, Pull Down Screen; "
        "security cameras: Security Camera, Doorbell Camera; webcams: Webcam, Desktop Camera; "
        "television mounts: Television Wall Mount, Screen Bracket; hdmi cables: Hdmi Cable, Video Cable; "
        "baby monitors: Baby Monitor, Nursery Camera; set top boxes: Set Top Box, Media Player; "
        "action cameras: Action Camera, Helmet Camera; remote controls: Remote Control, Replacement Remote"
    ),
    qualities=_list("plug and play, high speed, gold plated, motion activated, dust proof, wall mounted"),
    parts=_list("night vision, optical zoom, wide angle lens, padded straps, batteries included, privacy shutter"),
    uses=_list("home theaters, living rooms, live streaming, wedding photos, dual monitors"),
    prices=(10, 900),
    option_sets=_sets(size=10, color=4, color__size=3, style=3),
    optional=30,
    facts=(
        "The picture stays steady when a lorry passes.",
        "Screws, wall plugs and a small level come in the box.",
        "Menus are in plain words and can be read from the sofa.",
        "The picture starts within three seconds.",
    ),
)

_COMPUTERS = Group(
    path=("Computers", "Desktops, Storage and Input"),
    kinds=_kinds(
        "laptops: Laptop, Notebook Computer; desktop computers: Desktop Computer, Mini Computer; "
        "keyboards: Mechanical Keyboard, Compact Keyboard; computer mice: Computer Mouse, Vertical Mouse; "
        "external drives: External Drive, Portable Drive; tablet computers: Tablet Computer, Drawing Tablet; "
        "monitors: Computer Monitor, Curved Monitor; routers: Network Router, Mesh Router; "
        "docking stations: Docking Station, Port Hub"
    ),
    qualities=_list("high performance, quad core, energy saving, dual band, whisper quiet, backlit"),
    parts=_list("solid state drive, aluminum body, ethernet port, numeric pad, memory card reader, detachable cable"),
    uses=_list("video editing, spreadsheets, gaming nights, shared desks, students"),
    prices=(28, 1700),
    option_sets=_sets(size=6, color=5, style=6, size__style=3),
    optional=26,
    facts=(
        "Sits flat in a drawer when the day is done.",
        "Starts while the kettle is still thinking.",
        "All vents are at the back, away from the papers.",
        "A spare set of rubber feet is taped under the lid.",
    ),
)

_GADGETS = Group(
    path=("Wearables and Power", "Small Devices"),
    kinds=_kinds(
        "smart watches: Smart Watch, Fitness Watch; walkie talkies: Walkie Talkie Pair, Two Way Radio; "
        "portable fans: Portable Fan, Desk Fan; extension cords: Extension Cord, Power Strip; "
        "batteries: Rechargeable Batteries, Battery Set; binoculars: Binoculars, Field Glasses; "
        "game controllers: Game Controller, Gamepad; e readers: E Reader, Book Tablet; "
        "digital frames: Digital Photo Frame, Picture Display"
    ),
    qualities=_list("long range, surge protected, shatter proof, pocket sized, fog proof, low power"),
    parts=_list("touch screen, carrying pouch, sleep timer, neck strap, rotating plug, heart rate sensor"),
    uses=_list("bird watching, camping, power cuts, night reading, hill walks"),
    prices=(12, 330),
    option_sets=_sets(color=8, style=3, color__size=3, size=3),
    optional=28,
    facts=(
        "Fits the outer pocket of a coat.",
        "The lamp on the side turns from amber to white when it is ready.",
        "One button does one thing.",
        "Switches itself off when nobody is near.",
    ),
)

_LIVING = Group(
    path=("Furniture", "Living and Dining"),
    kinds=_kinds(
        "side tables: Side Table, End Table; coffee tables: Coffee Table, Cocktail Table; "
        "bookcases: Bookcase, Open Bookshelf; bar stools: Bar Stool, Counter Stool; "
        "sofas: Two Seat Sofa, Sleeper Sofa; accent chairs: Accent Chair, Reading Chair; "
        "dining chairs: Dining Chair Set, Side Chair; television stands: Television Stand, Media Console; "
        "ottomans: Storage Ottoman, Footstool; shoe benches: Shoe Bench, Entryway Bench; office chairs: Office Chair, "
        "Swivel Chair"
    ),
    qualities=_list("easy to assemble, space saving, mid century, fully assembled, height adjustable, button tufted"),
    parts=_list("solid wood legs, metal frame, memory foam, storage shelf, faux leather, wood finish"),
    uses=_list("dining rooms, small apartments, home offices, entryways, reading corners"),
    prices=(60, 1500),
    option_sets=_sets(color=10, color__size=8, color__style=1, size=2),
    optional=38,
    facts=(
        "The boards are sanded twice and sealed on all six sides.",
        "Two people put it up in twenty minutes.",
        "Felt pads under the feet are kind to floors.",
        "Holds the weight of a tall adult and a heavy book.",
    ),
)

_BEDROOM = Group(
    path=("Bedding", "Beds and Textiles"),
    kinds=_kinds(
        "pillow covers: Pillow Cover, Cushion Cover; duvet covers: Duvet Cover Set, Quilt Cover; "
        "bed sheets: Bed Sheet Set, Fitted Sheet; mattresses: Mattress, Foam Mattress; bed frames: Bed Frame, "
        "Platform Bed; throw blankets: Throw Blanket, Knitted Throw; mattress toppers: Mattress Topper, "
        "Mattress Pad; bath towels: Bath Towel Set, Bath Sheet; pillows: Bed Pillow, Side Sleeper Pillow"
    ),
    qualities=_list("machine washable, super soft, double sided, wrinkle resistant, queen size, breathable"),
    parts=_list("hidden zipper, deep pockets, organic cotton, goose down, corner ties, stitched edges"),
    uses=_list("guest rooms, hot sleepers, all seasons, bunk beds, side sleepers"),
    prices=(12, 420),
    option_sets=_sets(color__size=14, color=6, size=4, size__style=1),
    optional=62,
    facts=(
        "Washed once at the mill, so it will not shrink at home.",
        "The seams are sewn twice with one long thread.",
        "Give it a day to unfold after the parcel is opened.",
        "Colours stay calm after fifty washes.",
    ),
)

_DECOR = Group(
    path=("Home Decor", "Walls and Windows"),
    kinds=_kinds(
        "wall art: Wall Art Print, Canvas Print; area rugs: Area Rug, Runner Rug; curtains: Window Curtain Pair, "
        "Curtain Panels; scented candles: Scented Candle, Jar Candle; wall clocks: Wall Clock, Hanging Clock; "
        "wall mirrors: Wall Mirror, Standing Mirror; artificial plants: Artificial Plant, Silk Fern; "
        "picture frames: Picture Frame Set, Photo Frame; window films: Window Film, Privacy Film; doormats: Doormat, "
        "Entrance Mat"
    ),
    qualities=_list("ready to hang, non slip, light blocking, hand painted, fade resistant, pet friendly"),
    parts=_list("wooden frame, rod pocket, rubber backing, soy wax, silent movement, brass hooks"),
    uses=_list("kids rooms, kitchens, hallways, covered porches, bathroom windows"),
    prices=(9, 190),
    option_sets=_sets(color__size=10, size=10, color=5, size__style=1),
    optional=48,
    facts=(
        "Drawn in our own studio from things seen on walks.",
        "Rolled around a firm tube, so there are no creases.",
        "Goes with plain walls and with patterned ones.",
        "A template for the nail is printed on the box.",
    ),
)

_LIGHTING = Group(
    path=("Lighting", "Lamps and Fixtures"),
    kinds=_kinds(
        "table lamps: Table Lamp, Bedside Lamp; floor lamps: Floor Lamp, Arc Lamp; pendant lights: Pendant Light, "
        "Hanging Light; ceiling lights: Ceiling Light, Flush Ceiling Lamp; wall sconces: Wall Sconce, "
        "Wall Light Pair; string lights: String Lights, Fairy Lights; light bulbs: Light Bulb Set, Filament Bulbs; "
        "night lights: Night Light, Plug In Night Light"
    ),
    qualities=_list("dimmable, energy efficient, weather proof, touch controlled, brushed nickel, warm white"),
    parts=_list("linen shade, clear glass, pull chain, foot switch, bronze finish, remote control"),
    uses=_list("reading chairs, dining tables, patios, nurseries, stairways"),
    prices=(12, 420),
    option_sets=_sets(color=8, color__size=4, size=4),
    optional=34,
    facts=(
        "Takes any common bulb with a screw base.",
        "The cord is long enough to reach behind a wardrobe.",
        "Throws a round pool of light and no glare.",
        "An electrician will hang it in a quarter of an hour.",
    ),
)

_STORAGE = Group(
    path=("Storage", "Kitchen and Laundry"),
    kinds=_kinds(
        "storage baskets: Storage Basket, Woven Basket; kitchen carts: Kitchen Cart, Rolling Cart; "
        "wine racks: Wine Rack, Bottle Rack; shoe racks: Shoe Rack, Shoe Shelf; storage cabinets: Storage Cabinet, "
        "Floor Cabinet; laundry hampers: Laundry Hamper, Laundry Basket; dish racks: Dish Rack, Drying Rack; "
        "garment racks: Garment Rack, Clothes Rail; planters: Planter Box, Plant Pot Set"
    ),
    qualities=_list("stackable, collapsible, rust resistant, easy to wipe, freestanding, hand woven"),
    parts=_list("lockable wheels, sliding drawers, cotton rope handles, mesh sides, adjustable shelves, drip tray"),
    uses=_list("narrow gaps, closets, balconies, laundry rooms, pantries"),
    prices=(15, 210),
    option_sets=_sets(color=6, color__size=6, size=4),
    optional=40,
    facts=(
        "Put together without tools.",
        "Stands straight on uneven tiles.",
        "Carries a week of shopping without bending.",
        "Folds to the width of a hand for moving day.",
    ),
)

_TOPS = Group(
    path=("Clothing", "Tops"),
    kinds=_kinds(
        "t-shirts: Crew Neck Tee, Graphic Tee, V Neck Tee; blouses and shirts: Button Down Shirt, Long Shirt; "
        "sweaters: Pullover Sweater, Knit Sweater; hoodies: Zip Hoodie, Pullover Hoodie; "
        "jackets: Rain Jacket, Quilted Jacket; polos: Polo Shirt, Golf Polo; vests: Padded Vest, Fleece Vest"
    ),
    qualities=_list("slim fit, hand wash, quick dry, moisture wicking, wrinkle free, loose fitting"),
    parts=_list("long sleeves, short sleeves, polyester blend, ribbed cuffs, button closure, front pocket"),
    uses=_list("daily wear, office days, cold mornings, beach trips, layering"),
    prices=(9, 70),
    option_sets=_sets(color__size=20, fit_type__color__size=9, size=1),
    optional=86,
    facts=(
        "Cut from one width of cloth, so the sides do not twist.",
        "Hangs well over jeans and under a coat.",
        "If between two sizes, take the larger.",
        "The label is printed, so nothing scratches.",
    ),
    audiences=("Women", "Men", "Boys"),
)

_BOTTOMS = Group(
    path=("Clothing", "Bottoms"),
    kinds=_kinds(
        "jeans: Straight Jeans, Stretch Jeans; shorts: Cargo Shorts, Running Shorts; leggings: Leggings, Yoga Tights; "
        "sweatpants: Sweatpants, Lounge Pants; trousers: Pleated Trousers, Work Trousers; "
        "swimwear: Swim Shorts, Swim Trunks"
    ),
    qualities=_list("high waisted, relaxed fit, straight leg, stretchy, tummy control, water repellent"),
    parts=_list("elastic waist, side pockets, drawstring closure, cotton lining, zipper closure, belt loops"),
    uses=_list("gym sessions, weekend errands, garden work, travel days, dance classes"),
    prices=(12, 65),
    option_sets=_sets(color__size=20, fit_type__color__size=9, size=2),
    optional=86,
    facts=(
        "Sits where it should when cycling.",
        "The hem can be let down by two fingers.",
        "The cloth gets softer with every wash.",
        "Measured flat, not stretched; see the chart.",
    ),
    audiences=("Women", "Men", "Girls"),
)

_SHOES = Group(
    path=("Shoes", "Footwear"),
    kinds=_kinds(
        "walking shoes: Walking Shoes, Trail Walkers; sandals: Strap Sandals, Slide Sandals; boots: Ankle Boots, "
        "Winter Boots; sneakers: Canvas Sneakers, Low Top Sneakers; slippers: House Slippers, Moccasin Slippers; "
        "loafers: Loafers, Slip On Loafers; running shoes: Running Shoes, Racing Flats"
    ),
    qualities=_list("slip resistant, lace up, open toe, arch supporting, memory cushioned, water shedding"),
    parts=_list("rubber sole, leather upper, removable insole, steel toe, ankle strap, faux fur lining"),
    uses=_list("wide feet, rainy days, long shifts, forest paths, indoor halls"),
    prices=(18, 130),
    option_sets=_sets(color__size=20, size=2),
    optional=90,
    facts=(
        "True to size when tried on in the evening.",
        "The sole is stitched as well as glued.",
        "Can be resoled by any cobbler.",
        "Worn for a month by a postman before we sold the first pair.",
    ),
    audiences=("Women", "Men", "Kids"),
)

_DRESSES = Group(
    path=("Clothing", "Dresses and Sleepwear"),
    kinds=_kinds(
        "dresses: Summer Dress, Wrap Dress, Midi Dress; skirts: Pleated Skirt, Pencil Skirt; "
        "pajamas: Pajama Set, Sleep Set; bathrobes: Bathrobe, Hooded Robe; jumpsuits: Wide Leg Jumpsuit, Romper; "
        "cardigans: Open Cardigan, Long Cardigan"
    ),
    qualities=_list("knee length, off shoulder, tie waist, light weight, fully lined, flowy"),
    parts=_list("floral print, lace trim, v neckline, satin belt, spaghetti straps, hidden pockets"),
    uses=_list("garden parties, lazy sundays, new mothers, wedding guests, warm evenings"),
    prices=(14, 75),
    option_sets=_sets(color__size=20, color=1, size=1),
    optional=86,
    facts=(
        "Turns nicely when the wearer does.",
        "Packs into a shoe and comes out without a fold.",
        "The pattern meets at the seams.",
        "The model in the picture is of average height.",
    ),
    audiences=("Women", "Girls"),
)

_ACCESSORIES = Group(
    path=("Accessories", "Bags, Hats and More"),
    kinds=_kinds(
        "backpacks: Day Backpack, Roll Top Backpack; belts: Dress Belt, Woven Belt; hats: Bucket Hat, Sun Hat; "
        "scarves: Winter Scarf, Square Scarf; gloves: Knit Gloves, Driving Gloves; socks: Crew Socks, Ankle Socks; "
        "wallets: Bifold Wallet, Slim Wallet; sunglasses: Round Sunglasses, Sport Sunglasses"
    ),
    qualities=_list("genuine leather, adjustable, polarized, windproof, hand stitched, tear resistant"),
    parts=_list("wide brim, coin pocket, touchscreen fingertips, wool blend, metal buckle, laptop sleeve"),
    uses=_list("school days, ski trips, commuters, formal suits, sunny days"),
    prices=(8, 60),
    option_sets=_sets(color=10, color__size=6, size=1),
    optional=70,
    facts=(
        "Looks better after a year than on the first day.",
        "Comes in a cotton bag that is useful by itself.",
        "The thread has the colour of the cloth.",
        "Light enough to be forgotten.",
    ),
    audiences=("Women", "Men"),
)

_SNACKS = Group(
    path=("Snack Foods", "Bars, Chips and Nuts"),
    kinds=_kinds(
        "granola bars: Granola Bars, Oat Bars; potato chips: Potato Chips, Kettle Chips; crackers: Seed Crackers, "
        "Crispbread; trail mixes: Trail Mix, Nut Mix; popcorn: Popcorn, Popping Corn; fruit snacks: Fruit Leather, "
        "Dried Fruit; rice cakes: Rice Cakes, Puffed Rice Squares; jerky: Beef Jerky, Turkey Jerky"
    ),
    qualities=_list("gluten free, low sodium, individually wrapped, oven baked, high protein, nut free"),
    parts=_list("sea salt flakes, chia seeds, dark chocolate, dried cranberries, whole grains"),
    uses=_list("lunch boxes, hiking breaks, movie nights, office drawers"),
    prices=(6, 42),
    option_sets=_sets(flavor_name=4, flavor_name__size=3, size=9),
    optional=30,
    facts=(
        "Each bag closes again with a fold.",
        "Crisp until the last crumb.",
        "Packed the day after the oven cools.",
        "Lists its ingredients in the order of a recipe.",
    ),
)

_DRINKS = Group(
    path=("Beverages", "Coffee, Tea and Juice"),
    kinds=_kinds(
        "ground coffees: Ground Coffee, Filter Coffee; herbal teas: Herbal Tea, Tea Bags; green teas: Green Tea, "
        "Loose Leaf Tea; drink mixes: Drink Mix, Lemonade Powder; juices: Pressed Juice, Juice Boxes; "
        "hot chocolates: Hot Chocolate, Cocoa Mix; plant milks: Almond Drink, Oat Drink"
    ),
    qualities=_list("caffeine free, fair trade, sugar free, small batch, cold brewed, unsweetened"),
    parts=_list("ginger root, real fruit, lemon zest, added vitamins, compostable pods"),
    uses=_list("iced drinks, early shifts, rainy afternoons, big families"),
    prices=(7, 46),
    option_sets=_sets(flavor_name=4, flavor_name__size=2, size=9),
    optional=30,
    facts=(
        "Tasted blind by twelve neighbours.",
        "Three minutes in the cup are plenty.",
        "Keeps its smell because the tin has two lids.",
        "Grown on slopes that see the morning sun.",
    ),
)

_PANTRY = Group(
    path=("Pantry Staples", "Sauces, Grains and Spices"),
    kinds=_kinds(
        "pasta: Penne Pasta, Spaghetti; pasta sauces: Pasta Sauce, Tomato Sauce; seasonings: Spice Blend, "
        "Seasoning Rub; rice: Jasmine Rice, Brown Rice; soups: Lentil Soup, Vegetable Soup; nut butters: "
        "Almond Butter, Peanut Butter; honey: Flower Honey, Raw Honey; baking mixes: Pancake Mix, Bread Mix; "
        "salad dressings: Salad Dressing, Vinaigrette"
    ),
    qualities=_list("non gmo, ready to eat, keto friendly, dairy free, stone ground, low carb"),
    parts=_list("olive oil, roasted garlic, smoked paprika, ancient grains, fresh basil"),
    uses=_list("quick dinners, picky eaters, sunday baking, camp stoves"),
    prices=(5, 38),
    option_sets=_sets(flavor_name=2, size=8, flavor=4, flavor__size=2),
    optional=30,
    facts=(
        "One jar feeds four.",
        "Cooked slowly in an open pan.",
        "Recipes are on the inside of the label.",
        "Store in a dry place; best within the year.",
    ),
)

_SWEETS = Group(
    path=("Candy and Bakery", "Sweets"),
    kinds=_kinds(
        "chocolates: Chocolate Bar, Chocolate Truffles; gummies: Gummy Drops, Fruit Gummies; hard candies: Hard Candy, "
        "Lollipops; cookies: Butter Cookies, Oat Cookies; cakes: Pound Cake, Tea Cake; "
        "cake decorations: Cake Topper Set, Sprinkles; mints: Breath Mints, Peppermint Drops"
    ),
    qualities=_list("kosher, egg free, artificially colorless, bite sized, resealable, soy free"),
    parts=_list("cocoa butter, natural flavors, vanilla beans, toasted hazelnuts, candied ginger"),
    uses=_list("birthday parties, baby showers, holiday baskets, sharing bowls"),
    prices=(5, 36),
    option_sets=_sets(flavor_name=4, flavor_name__size=3, flavor=2, size=6),
    optional=32,
    facts=(
        "Melts at the speed of a good story.",
        "Wrapped one by one in waxed paper.",
        "Sweet first, a little salty later.",
        "Travels well between April and October.",
    ),
)

DEPARTMENTS: tuple[Department, ...] = (
    Department(
        "beauty",
        "Beauty & Personal Care",
        238,
        _list("eco friendly, easy to use, clean formula"),
        (
            "Made in rooms that smell of soap and are aired every hour.",
            "Nothing in it was tried on animals, only on our own arms.",
            "A leaflet explains every ingredient in one sentence.",
            "Bathrooms are small, so the pack is as well.",
            "Tell us how it went: the address is on the bottom.",
        ),
        (_HAIR, _SKIN, _MAKEUP, _GROOMING, _ORAL, _FRAGRANCE),
    ),
    Department(
        "electronics",
        "Electronics",
        229,
        _list("compact, durable, easy to carry"),
        (
            "Tested for a week on our own desks before it ships.",
            "The manual is short, printed and not translated by a machine.",
            "Spare parts can be ordered for ten years.",
            "A green dot on the box means that the plug fits your wall.",
            "If it hums, send it back; we pay the postage.",
        ),
        (_AUDIO, _PHONES, _VIDEO, _COMPUTERS, _GADGETS),
    ),
    Department(
        "garden",
        "Home & Kitchen",
        216,
        _list("sturdy, easy to maintain, scandinavian"),
        (
            "Delivered to the door in cardboard that can go to the compost.",
            "Measured twice by people who live in small flats.",
            "Corners are padded, so it arrives whole.",
            "Dust comes off with a dry cloth.",
            "Drawn by a carpenter and checked by her children.",
        ),
        (_LIVING, _BEDROOM, _DECOR, _LIGHTING, _STORAGE),
    ),
    Department(
        "fashion",
        "Clothing, Shoes & Jewelry",
        200,
        _list("comfortable, machine wash, casual"),
        (
            "Sewn in a workshop with tall windows.",
            "Please compare with something you like to wear.",
            "Returns are free when the tag is still on.",
            "Fabric leftovers become the bag it comes in.",
            "Washes with similar shades; dries on the line.",
        ),
        (_TOPS, _BOTTOMS, _SHOES, _DRESSES, _ACCESSORIES),
    ),
    Department(
        "grocery",
        "Grocery & Gourmet Food",
        117,
        _list("organic, no preservatives, family size"),
        (
            "Made in a kitchen that does nothing else.",
            "The farmer is named on the back.",
            "Open it within the season and finish it within the month.",
            "Children helped to choose the recipe.",
            "Allergens are printed in bold.",
        ),
        (_SNACKS, _DRINKS, _PANTRY, _SWEETS),
    ),
)

# Attributes that make sense for some kinds of their group alone: the queries.
ONLY_FOR: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        attribute: frozenset(_list(queries))
        for attribute, queries in (
            ("volumizing", "shampoos, conditioners, styling gels, dry shampoos, hair sprays"),
            ("heat protecting", "hair oils, leave in creams, hair sprays, hair masks"),
            ("dark circles", "face creams, face serums, eye patches, sheet masks"),
            ("fine lines", "face creams, face serums, eye patches, sheet masks, hand creams"),
            ("fast absorbing", "face creams, face serums, body lotions, hand creams, sun lotions"),
            ("soft bristles", "makeup brushes, mascaras, blushes, nail polishes"),
            ("mica powder", "lipsticks, eyeliners, eyeshadow palettes, blushes, nail polishes"),
            ("jojoba oil", "lipsticks, mascaras, eyeliners, blushes, nail polishes"),
            ("vitamin e", "lipsticks, mascaras, eyeliners, blushes, nail polishes, eyeshadow palettes"),
            ("highly pigmented", "lipsticks, eyeliners, eyeshadow palettes, mascaras, blushes, nail polishes"),
            ("smudge proof", "lipsticks, eyeliners, eyeshadow palettes, mascaras, blushes"),
            ("sensitive eyes", "eyeliners, eyeshadow palettes, mascaras, makeup brushes"),
            ("rechargeable", "hair clippers, massage rollers"),
            ("ceramic blade", "hair clippers, nail kits"),
            ("stainless steel", "hair clippers, nail kits, tweezers, massage rollers, hair rollers"),
            ("rust proof", "hair clippers, nail kits, tweezers"),
            ("bamboo handle", "hair brushes, massage rollers, nail kits"),
            ("elastic rim", "shower caps, hair bands, wigs, spa towels"),
            ("spare comb", "hair clippers, hair brushes, wigs, hair rollers"),
            ("quick drying", "spa towels, shower caps, hair bands, hair brushes"),
            ("nail art", "nail kits, tweezers"),
            ("thick hair", "hair clippers, hair brushes, hair rollers, hair bands, shower caps"),
            ("charcoal bristles", "toothbrushes"),
            ("fluoride free", "toothpastes, mouthwashes, dental flosses"),
            ("charging case", "wireless earbuds, headphones"),
            ("built in microphone", "wireless earbuds, headphones, bluetooth speakers, clock radios"),
            ("noise cancelling", "wireless earbuds, headphones, microphones"),
            ("deep bass", "wireless earbuds, headphones, bluetooth speakers, sound bars, shelf speakers"),
            ("running", "wireless earbuds, headphones, bluetooth speakers"),
            ("tempered glass", "phone cases, tablet cases, screen protectors, watch bands"),
            ("card slots", "phone cases, tablet cases, power banks"),
            ("braided cable", "charging cables, wall chargers, power banks, ring lights"),
            ("wireless charging", "phone cases, phone mounts, power banks, wall chargers"),
            ("shock absorbing", "phone cases, tablet cases, screen protectors, tripods, phone mounts"),
            ("raised edges", "phone cases, tablet cases, screen protectors, watch bands, phone mounts"),
            ("kickstand", "phone cases, tablet cases, phone mounts, ring lights, power banks"),
            ("night vision", "security cameras, baby monitors, action cameras, webcams"),
            ("optical zoom", "projectors, security cameras, webcams, action cameras, baby monitors"),
            ("wide angle lens", "security cameras, webcams, action cameras, baby monitors, projectors"),
            ("privacy shutter", "webcams, security cameras, baby monitors"),
            ("padded straps", "action cameras, projectors, projector screens, television mounts"),
            ("motion activated", "security cameras, action cameras, baby monitors"),
            ("gold plated", "hdmi cables, set top boxes, projectors"),
            ("quad core", "laptops, desktop computers, tablet computers, routers"),
            ("dual band", "routers, laptops, desktop computers, docking stations, tablet computers"),
            ("backlit", "keyboards, computer mice, laptops, monitors, tablet computers"),
            ("solid state drive", "laptops, desktop computers, external drives"),
            ("ethernet port", "laptops, desktop computers, routers, docking stations"),
            ("numeric pad", "keyboards, laptops"),
            ("memory card reader", "laptops, desktop computers, docking stations, monitors, tablet computers"),
            ("heart rate sensor", "smart watches"),
            ("touch screen", "smart watches, e readers, digital frames"),
            ("rotating plug", "extension cords, portable fans, digital frames"),
            ("neck strap", "walkie talkies, binoculars, portable fans"),
            ("surge protected", "extension cords, digital frames, batteries"),
            ("fog proof", "binoculars, smart watches, walkie talkies"),
            ("long range", "walkie talkies, binoculars, game controllers"),
            ("bird watching", "binoculars, walkie talkies"),
            ("memory foam", "sofas, accent chairs, dining chairs, ottomans, bar stools, shoe benches, office chairs"),
            ("faux leather", "sofas, accent chairs, dining chairs, ottomans, bar stools, shoe benches, office chairs"),
            ("button tufted", "sofas, accent chairs, dining chairs, ottomans, bar stools, shoe benches, office chairs"),
            ("height adjustable", "bar stools, office chairs, side tables, bookcases"),
            ("storage shelf", "side tables, coffee tables, bookcases, television stands, shoe benches"),
            ("hidden zipper", "pillow covers, duvet covers, mattress toppers, mattresses, pillows"),
            ("deep pockets", "bed sheets, mattress toppers"),
            ("goose down", "pillows, mattress toppers, throw blankets, duvet covers"),
            ("queen size", "duvet covers, bed sheets, mattresses, bed frames, mattress toppers, pillows"),
            ("side sleepers", "mattresses, pillows, mattress toppers"),
            ("bunk beds", "duvet covers, bed sheets, mattresses, mattress toppers, pillows"),
            ("corner ties", "duvet covers, mattress toppers, pillow covers"),
            ("rod pocket", "curtains"),
            ("rubber backing", "area rugs, doormats"),
            ("soy wax", "scented candles"),
            ("silent movement", "wall clocks"),
            ("non slip", "area rugs, doormats"),
            ("light blocking", "curtains, window films"),
            ("ready to hang", "wall art, wall clocks, wall mirrors, picture frames"),
            ("wooden frame", "wall art, wall clocks, wall mirrors, picture frames"),
            ("brass hooks", "wall art, wall mirrors, picture frames, curtains, wall clocks"),
            ("bathroom windows", "curtains, window films, artificial plants"),
            ("linen shade", "table lamps, floor lamps, pendant lights, wall sconces, ceiling lights"),
            ("pull chain", "table lamps, floor lamps, ceiling lights, wall sconces"),
            ("foot switch", "floor lamps, string lights"),
            ("lockable wheels", "kitchen carts, garment racks, laundry hampers, planters"),
            ("sliding drawers", "kitchen carts, storage cabinets, shoe racks"),
            ("hand woven", "storage baskets, laundry hampers"),
            ("drip tray", "dish racks, planters, kitchen carts"),
            ("adjustable shelves", "kitchen carts, wine racks, shoe racks, storage cabinets, garment racks"),
            ("long sleeves", "t-shirts, blouses and shirts, sweaters, hoodies, polos"),
            ("short sleeves", "t-shirts, blouses and shirts, polos"),
            ("ribbed cuffs", "sweaters, hoodies, jackets"),
            ("cotton lining", "shorts, sweatpants, trousers, swimwear"),
            ("belt loops", "jeans, shorts, trousers"),
            ("steel toe", "boots, walking shoes"),
            ("open toe", "sandals, slippers"),
            ("lace up", "walking shoes, boots, sneakers, running shoes"),
            ("ankle strap", "sandals"),
            ("faux fur lining", "boots, slippers, loafers"),
            ("off shoulder", "dresses, jumpsuits, cardigans"),
            ("v neckline", "dresses, pajamas, jumpsuits, cardigans"),
            ("spaghetti straps", "dresses, jumpsuits, pajamas"),
            ("knee length", "dresses, skirts, bathrobes, cardigans"),
            ("polarized", "sunglasses"),
            ("wide brim", "hats"),
            ("touchscreen fingertips", "gloves"),
            ("laptop sleeve", "backpacks"),
            ("coin pocket", "wallets, backpacks"),
            ("wool blend", "hats, scarves, gloves, socks"),
            ("metal buckle", "belts, backpacks, hats"),
            ("genuine leather", "belts, wallets, gloves, backpacks"),
            ("windproof", "hats, gloves, scarves"),
            ("formal suits", "belts, scarves, wallets, socks, gloves"),
            ("sunny days", "hats, sunglasses, backpacks"),
            ("caffeine free", "herbal teas, drink mixes, juices, plant milks"),
            ("cold brewed", "ground coffees, herbal teas, green teas"),
            ("compostable pods", "ground coffees, hot chocolates"),
            ("real fruit", "juices, drink mixes, herbal teas"),
            ("lemon zest", "herbal teas, green teas, juices, drink mixes"),
            ("oven baked", "granola bars, potato chips, crackers, rice cakes"),
            ("stone ground", "pasta, rice, nut butters, baking mixes, seasonings"),
            ("ancient grains", "pasta, rice, soups, baking mixes"),
            ("roasted garlic", "pasta sauces, seasonings, soups, salad dressings"),
            ("fresh basil", "pasta sauces, seasonings, soups, salad dressings, pasta"),
            ("egg free", "cookies, cakes, cake decorations, chocolates"),
            ("cocoa butter", "chocolates, cookies, cakes"),
        )
    }
)

# Joined, these make brand names that no shop has.
BRAND_STARTS = _list(
    "Quell, Brindo, Ostra, Fenwi, Harrum, Velto, Mirrow, Tamsel, Ulvar, Pendri, Cossa, Yarrum, Wexi, Dorlo, Lunfe, "
    "Gristo, Ambro, Nettu, Sorvi, Kelpa, Zintra, Hobru, Ivvo, Jurna, Rastle"
)
BRAND_ENDS = _list("mark, vane, lind, wick, dorf, quist, holm, brae, tique, nesse, forth, zell, rook, sund, pell, gard")

# Names of lines of products.
LINES = _list(
    "Meadow, Harbor, Lantern, Juniper, Compass, Willow, Ember, Tundra, Orchard, Beacon, Saddle, Prairie, Cove, Falcon, "
    "Thistle, Summit, Canyon, Delta, Heron, Quarry"
)

# Ends of titles that say nothing about the product, without a noun: those decide how alike two titles are.
TITLE_EXTRAS = _list(
    "Carefully Packed, Newly Revised, Twice Inspected, Much Improved, Locally Assembled, Lovingly Designed, Often "
    "Reordered, Made to Last, Never Boring, Still Made Here, Ready to Give, Now Even Better, Quietly Excellent, "
    "Widely Loved, Sold Directly, Freshly Restocked, Neatly Boxed, Seriously Simple, Fairly Priced, Plainly "
    "Wrapped, Long Awaited, Cheerfully Different, Kindly Made, Rarely Returned, Finally Back, Brand New, Officially "
    "Approved, Always Available, Sensibly Sized, Recently Updated, Highly Praised, Truly Thoughtful"
)

# Sentences for any product.
REMARKS = (
    "We make fewer things than others and look at each of them longer.",
    "Nobody here is paid by the piece, and it shows in the corners.",
    "The first version was too heavy, the second too loud; this is the ninth.",
    "If you cannot say what it is good for after a week, we take it back.",
    "A short film shows how it is put to use, without music.",
    "Our neighbors have had theirs since the spring and still lend it out.",
    "The box is flat, so it fits through most letter slots or under an arm.",
    "Drawn, cut and checked under one roof.",
    "There is a number on the bottom: call it and a person answers.",
    "We wrote down everything that went wrong so that it will not happen to you.",
    "Please keep the ring with the tag; it opens the repair drawer.",
    "Half of those who buy one come back for another within the year.",
    "Tried in four homes, two offices and one sailing boat.",
    "It is not the cheapest, since we pay on time.",
)

CLOSINGS = (
    "Questions are answered within a day.",
    "A small team packs every order.",
    "Good for thirty days of second thoughts.",
    "Pictures show the real thing; screens may differ.",
    "Please measure before ordering.",
)

PLAIN_COLORS = _list("Black, White, Grey, Blue, Red, Green, Pink, Purple, Yellow, Brown, Beige, Orange")
SHADES = _list(
    "Navy Blue, Light Blue, Dark Green, Army Green, Wine Red, Rose Gold, Dark Grey, Light Grey, Sky Blue, Hot Pink, "
    "Olive Green, Royal Blue, Off White, Coffee Brown, Mint Green, Burgundy, Charcoal, Khaki, Turquoise, Lavender, "
    "Champagne, Ivory, Walnut, Espresso, Teal, Coral, Mustard Yellow, Midnight Blue, Dusty Pink, Cream, Silver, Gold, "
    "Black/White, Grey/Blue, Natural, Camel, Multicolor"
)
# A colour's name glued to something else: in the original, goals with these can never be met.
GLUED_COLORS = _list(
    "Black07, Darkblue, Bluegrey, Whitewash, Red2, Navystripe, Pinkish, Rosewood, Grey12, Multicolored"
)

OPTION_VALUES: Mapping[str, Mapping[str, tuple[tuple[str, ...], ...]]] = MappingProxyType(
    {
        "size": MappingProxyType(
            {
                "Footwear": (
                    _list("5, 5.5, 6, 6.5, 7, 7.5, 8, 8.5, 9, 9.5, 10, 11, 12, 13"),
                    _list("6 Narrow, 6 Wide, 7 Narrow, 7 Wide, 8 Narrow, 8 Wide, 9 Narrow, 9 Wide, 10 Wide, 11 Wide"),
                ),
                "Bags, Hats and More": (
                    _list("Small, Medium, Large, X-Large"),
                    _list("One Size, Youth, Adult Small, Adult Large"),
                ),
                "fashion": (
                    _list("X-Small, Small, Medium, Large, X-Large, XX-Large, 3X-Large"),
                    _list("2, 4, 6, 8, 10, 12, 14, 16, 18, 20"),
                    _list(
                        "Small Petite, Medium Petite, Large Petite, Small Tall, Medium Tall, Large Tall, X-Large Tall"
                    ),
                ),
                "Beds and Textiles": (_list("Twin, Twin XL, Full, Full XL, Queen, King, California King"),),
                "pillow covers": (
                    _list("12 x 20 inch, 16 x 16 inch, 18 x 18 inch, 20 x 20 inch, 24 x 24 inch, 26 x 26 inch"),
                ),
                "bath towels": (_list("Hand Towel, Bath Towel, Bath Sheet, Set of 2, Set of 4, Set of 6"),),
                "Walls and Windows": (
                    _list("16 x 24 inch, 20 x 30 inch, 24 x 36 inch, 30 x 45 inch, 36 x 54 inch, 40 x 60 inch"),
                    _list("12 x 16 inch, 16 x 20 inch, 18 x 27 inch, 24 x 32 inch, 28 x 40 inch, 32 x 48 inch"),
                ),
                "area rugs": (
                    _list("2 x 3 ft, 2 x 8 ft, 3 x 5 ft, 4 x 6 ft, 5 x 7 ft, 6 x 9 ft, 8 x 10 ft, 9 x 12 ft"),
                ),
                "curtains": (
                    _list("42 x 45 inch, 42 x 63 inch, 42 x 84 inch, 52 x 63 inch, 52 x 84 inch, 52 x 95 inch"),
                ),
                "scented candles": (_list("4 ounce, 7 ounce, 9 ounce, 14 ounce, 22 ounce"),),
                "garden": (
                    _list("Single, Set of 2, Set of 3, Set of 4, Set of 6, Set of 8"),
                    _list("12 inch, 16 inch, 18 inch, 24 inch, 30 inch, 36 inch, 42 inch, 48 inch"),
                ),
                "laptops": (
                    _list("128 gb, 256 gb, 512 gb, 1 tb, 2 tb, 4 tb"),
                    _list("8 gb memory, 16 gb memory, 32 gb memory, 64 gb memory"),
                ),
                "desktop computers": (_list("128 gb, 256 gb, 512 gb, 1 tb, 2 tb, 4 tb"),),
                "external drives": (_list("500 gb, 1 tb, 2 tb, 4 tb, 5 tb, 8 tb"),),
                "monitors": (_list("22 inch, 24 inch, 27 inch, 32 inch, 34 inch, 38 inch"),),
                "charging cables": (_list("3 feet, 6 feet, 10 feet, 15 feet, 25 feet, 50 feet"),),
                "hdmi cables": (_list("3 feet, 6 feet, 10 feet, 15 feet, 25 feet, 50 feet, 75 feet, 100 feet"),),
                "extension cords": (_list("6 feet, 9 feet, 12 feet, 15 feet, 25 feet, 50 feet"),),
                "watch bands": (_list("38 mm, 40 mm, 41 mm, 42 mm, 44 mm, 45 mm, 49 mm"),),
                "smart watches": (_list("40 mm, 41 mm, 44 mm, 45 mm"),),
                "projector screens": (_list("72 inch, 84 inch, 92 inch, 100 inch, 110 inch, 120 inch, 150 inch"),),
                "electronics": (_list("1 pack, 2 pack, 3 pack, 4 pack, 5 pack, 6 pack, 8 pack, 10 pack"),),
                "wigs": (_list("8 inch, 10 inch, 12 inch, 14 inch, 16 inch, 18 inch, 20 inch, 22 inch"),),
                "Face, Eyes and Lips": (_list("Small, Medium, Large, Travel, Family"),),
                "Grooming": (
                    _list("1 Count (Pack of 1), 1 Count (Pack of 2), 1 Count (Pack of 3), 1 Count (Pack of 4)"),
                    _list("Small, Medium, Large, X-Large"),
                ),
                "Teeth and Breath": (
                    _list("1 Count (Pack of 1), 2 Count (Pack of 1), 4 Count (Pack of 1), 6 Count (Pack of 2)"),
                    _list("10 Count, 20 Count, 30 Count, 40 Count, 60 Count, 100 Count"),
                ),
                "beauty": (
                    _list("1 fl oz, 2 fl oz, 4 fl oz, 6 fl oz, 8 fl oz, 12 fl oz, 16 fl oz, 32 fl oz"),
                    _list("3 fl oz (Pack of 1), 3 fl oz (Pack of 2), 3 fl oz (Pack of 3), 3 fl oz (Pack of 6)"),
                ),
                "grocery": (
                    _list("8 ounce, 12 ounce, 16 ounce, 24 ounce, 32 ounce, 3 pound, 5 pound, 10 pound"),
                    _list("6 ounce (Pack of 1), 6 ounce (Pack of 2), 6 ounce (Pack of 4), 6 ounce (Pack of 6)"),
                    _list("10 Count, 12 Count, 20 Count, 24 Count, 36 Count, 48 Count, 100 Count"),
                ),
            }
        ),
        "style": MappingProxyType(
            {
                "electronics": (
                    _list("Base Model, With Case, With Charger, Bundle, Starter Kit, Left Hand"),
                    _list("Standard, Plus, Pro Kit, Travel Kit, Studio Kit"),
                ),
                "": (_list("Modern, Rustic, Classic, Farmhouse, Coastal, Retro, Industrial"),),
            }
        ),
        "fit type": MappingProxyType({"": (_list("Regular, Slim, Tall, Relaxed, Youth"),)}),
        "scent": MappingProxyType(
            {
                "": (
                    _list("Vanilla, Citrus, Sandalwood, Eucalyptus, Unscented, Jasmine, Fig, Bergamot, Fresh Linen"),
                    _list("Ocean Breeze, Wild Rose, Lavender Field, Pine Forest, Lemon Grass, Warm Amber, Cotton"),
                )
            }
        ),
        "flavor": MappingProxyType(
            {"": (_list("Original, Spicy, Garlic, Smoky, Lemon, Mint, Cinnamon, Berry, Sweet Chili, Herb"),)}
        ),
        "flavor name": MappingProxyType(
            {
                "": (
                    _list("Chocolate, Vanilla, Strawberry, Blueberry, Peanut, Caramel, Coconut, Mango, Maple, Apple"),
                    _list("Cherry Almond, Lemon Ginger, Honey Oat, Apple Cinnamon, Salted Caramel, Peach Mango"),
                    _list("Sea Salt, Barbecue, Cheddar, Sour Cream, Black Pepper, Rosemary, Jalapeno, Dill"),
                )
            }
        ),
        "pattern name": MappingProxyType(
            {"": (_list("Stripes, Dots, Marble, Leaves, Mountains, Plain, Waves, Checks, Paw Prints"),)}
        ),
    }
)
"""Values by option name, then by query, the group's last path piece, the department, or "" for the rest.
A product takes its values from one of the lists. Colours are apart: `PLAIN_COLORS`, `SHADES`, `GLUED_COLORS`."""

# Words of titles that are no nouns; every other one without digits is one, but for single letters.
NOT_NOUNS = _words(
    "absorbing accent activated added adjustable all always ancient and anti approved artificial artificially "
    "assemble assembled available awaited back baked based beige better bite black bleeding blocking blue boring "
    "boxed braided brand breathable brewed brown brushed built cancelling candied carefully carry carrying casual "
    "charging cheerfully clean cleansing clear clinically cold collapsible colorless comfortable compact compostable "
    "controlled cosmetic covered curly curved cushioned daily damaged dark deep dental designed detachable detangling "
    "different digital dimmable directly double down dried driving dry drying dual durable dusty early easy eat eco "
    "efficient elastic essential even excellent external extra facial fair fairly fast faux finally fine finishing "
    "fitted fitting fl flowy foaming foldable for formal free freestanding fresh freshly friendly fully gentle "
    "genuine give giving graphic greasy green grey handed hang hanging hard heavy herbal here hidden high highly "
    "hooded hot iced improved in included individually indoor inspected install kindly knitted kosher large last "
    "lasting layering lazy lentil lightweight limited lined live locally lockable long loose loved lovingly low "
    "made magnetic maintain manicure matte mature mechanical mid mild mini model moisturizing mounted much narrow "
    "natural neatly never new newly no non now numeric of off officially often oily on open optical organic out "
    "outdoor over overnight packed padded painted pair picky pigmented pink plain plainly plated pleated plug "
    "polarized popping portable poured praised pressed priced proof protected protecting puffed pull purple quad "
    "quick quiet quietly quilted rainy raised rarely raw reading ready recently rechargeable red relaxed remote "
    "removable reordered repellent resealable resistant restocked returned revised ribbed right roasted rolling "
    "rotating round royal safe saving scandinavian scented second sensibly sensitive seriously setting shared sharing "
    "shedding short sided silent simple sized slanted sleeping sliding slim small smart smoked soaking soft sold "
    "solid sore spare square stackable stained stainless still stitched straight stretch stretchy sturdy styling "
    "sunny super supporting swivel tempered tested thick thoughtful to toasted top touch truly tufted twice two ultra "
    "unsweetened up updated upper use vegan vertical volumizing waisted walking warm washable waterproof wavy wearing "
    "whisper white whitening whole wicking wide widely windproof wipe wireless with wooden woven wrapped yellow"
)
