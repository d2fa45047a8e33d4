"""SVG pictures of products, drawn from the product alone.

The query that a product was collected with says what is drawn, or else its department. Its colour is the chosen one, or
the first that its options or its title name, or else a function of the ASIN, as are pattern and proportions. A picture
never depends on the wanted product or on its attributes. No text, links, scripts.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping

from sdar_envs.webshop.catalog.loading import Product

__all__ = ["chosen_color", "favicon", "picture"]

_SIZE = 240

# Hue, saturation and lightness of the colour words.
_COLOR_TABLE = """
alabaster 40 20 92; apricot 28 90 76; aqua 180 80 58; ash 90 4 66; azure 205 85 60; beige 44 42 80;
black 220 8 14; blue 216 72 48; blush 352 60 82; bordeaux 345 62 26; bronze 30 56 42; brown 24 44 32;
burgundy 345 66 28; camel 34 44 56; camo 84 24 34; caramel 30 62 50; champagne 44 54 82; charcoal 210 8 26;
chestnut 16 48 34; chocolate 22 52 24; coffee 26 40 28; cognac 20 62 38; copper 22 56 46; coral 14 86 66;
cranberry 346 66 38; cream 48 60 88; crimson 348 78 46; cyan 188 82 50; denim 216 42 42;
eggplant 292 32 26; emerald 152 60 36; espresso 22 36 18; fuchsia 316 76 52; gold 44 76 52;
graphite 215 9 30; grape 276 40 36; gray 210 5 54; green 134 50 38; grey 210 5 54; heather 250 10 64;
indigo 252 56 38; ivory 54 56 92; khaki 52 28 56; lavender 262 52 80; lemon 54 88 66; lilac 280 38 76;
lime 84 70 48; magenta 312 74 48; maroon 350 64 26; mauve 292 24 62; merlot 346 56 26; mint 152 46 76;
mocha 24 28 38; mustard 45 74 46; natural 38 34 76; navy 222 58 22; nude 24 42 76; olive 66 36 34;
orange 26 90 54; peach 24 88 80; pewter 210 6 56; pink 338 78 74; plum 304 34 36; purple 274 48 44;
red 2 72 46; rose 346 58 66; royal 226 66 44; rust 16 66 40; salmon 8 78 70; sand 38 38 70;
sapphire 218 72 38; silver 210 8 76; slate 212 14 42; tan 34 40 64; taupe 32 12 52; teal 180 54 32;
turquoise 174 62 52; violet 270 54 56; walnut 24 32 30; wheat 40 56 78; white 210 16 96; wine 342 56 30;
yellow 50 90 58
"""
_COLORS = {
    word: (int(hue), int(saturation), int(light))
    for word, hue, saturation, light in map(str.split, _COLOR_TABLE.split(";"))
}


def picture(product: Product, color: str | None = None) -> str:
    """Return a square SVG picture of a product.

    Args:
        product: what is drawn.
        color: a chosen value, such as `navy blue`; None for the product's first.
    """
    seed = hashlib.sha256(product.asin.encode("utf-8", "replace")).digest()
    hue = seed[0] * 360 // 256
    other = (hue + 30 + seed[1] % 5 * 60) % 360
    body, trim, dark = f"hsl({hue} 55% 52%)", f"hsl({other} 60% 70%)", f"hsl({hue} 45% 28%)"
    named_color = _first_color([*([color] if color else []), *_color_texts(product)])
    if named_color is not None:
        hue, saturation, light = _COLORS[named_color]
        body = f"hsl({hue} {saturation}% {light}%)"
        trim = f"hsl({hue} {saturation * 2 // 3}% {light + 24 if light < 60 else light - 18}%)"
        dark = f"hsl({hue} {saturation // 2}% {max(light - 26, 8) if light > 30 else light + 26}%)"
        other = hue
    named = (_BY_WORD[word] for word in reversed(product.query.lower().split()) if word in _BY_WORD)
    draw = next(named, _BY_DEPARTMENT.get(product.category, _box))
    pattern = _pattern(seed[2] % 4, 10 + seed[3] % 12, trim)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_SIZE} {_SIZE}" width="{_SIZE}" height="{_SIZE}">'
        f"<defs>{pattern}</defs>"
        f'<rect width="{_SIZE}" height="{_SIZE}" fill="hsl({other} 45% 93%)"/>'
        f'<ellipse cx="120" cy="206" rx="{66 + seed[4] % 20}" ry="10" fill="hsl({other} 25% 80%)"/>'
        f"{draw(seed, body, trim, dark)}</svg>"
    )


def chosen_color(options: Mapping[str, str]) -> str | None:
    """Return the chosen value of a colour option, if there is one."""
    return next((value for name, value in options.items() if "color" in name or "colour" in name), None)


def _color_texts(product: Product) -> Iterator[str]:
    for name, values in product.options:
        if "color" in name or "colour" in name:
            yield from values
    yield product.title


def _first_color(texts: Iterable[str]) -> str | None:
    """Return the first colour word of the first text that has one."""
    words = (word for text in texts for word in re.findall("[a-z]+", text.lower().replace("rose gold", "gold")))
    return next((word for word in words if word in _COLORS), None)


def favicon() -> str:
    """Return the site's icon: a shopping bag."""
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">'
        '<path d="M5 10h22l-2 19H7z" fill="#0b6e69"/>'
        '<path d="M11 14V9a5 5 0 0 1 10 0v5" fill="none" stroke="#f2b134" stroke-width="2.5"/></svg>'
    )


def _pattern(kind: int, step: int, color: str) -> str:
    """Return the fill `p`, to be laid over the body: nothing, stripes, dots or a zigzag."""
    mark = (
        "",
        f'<rect width="{step}" height="{step // 2}" fill="{color}"/>',
        f'<circle cx="{step // 2}" cy="{step // 2}" r="{step // 4}" fill="{color}"/>',
        f'<path d="M0 {step}L{step / 2} 0L{step} {step}" fill="none" stroke="{color}" stroke-width="2"/>',
    )[kind]
    return f'<pattern id="p" width="{step}" height="{step}" patternUnits="userSpaceOnUse">{mark}</pattern>'


def _filled(shape: str, body: str) -> str:
    """Return a shape in the body's colour with the pattern over it; the shape ends before its fill."""
    return f'{shape} fill="{body}"/>{shape} fill="url(#p)"/>'


def _bottle(seed: bytes, body: str, trim: str, dark: str) -> str:
    width, top = 60 + seed[5] % 50, 70 + seed[6] % 40
    left = 120 - width / 2
    neck = width * 0.45
    return (
        f'<rect x="{120 - neck / 2}" y="{top - 34}" width="{neck}" height="40" rx="5" fill="{dark}"/>'
        + _filled(f'<rect x="{left}" y="{top}" width="{width}" height="{206 - top}" rx="{8 + seed[7] % 22}"', body)
        + f'<rect x="{left + 6}" y="{top + 34}" width="{width - 12}" height="44" rx="4" fill="{trim}"/>'
        f'<rect x="{left + 14}" y="{top + 46}" width="{width - 28}" height="5" fill="{dark}"/>'
        f'<rect x="{left + 14}" y="{top + 58}" width="{(width - 28) * 0.6}" height="5" fill="{dark}"/>'
    )


def _device(seed: bytes, body: str, trim: str, dark: str) -> str:
    width, height = 96 + seed[5] % 70, 70 + seed[6] % 60
    left, top = 120 - width / 2, 190 - height
    knobs = "".join(
        f'<circle cx="{left + width - 16}" cy="{top + 22 + 20 * row}" r="6" fill="{trim}"/>'
        for row in range(1 + seed[7] % 3)
    )
    stand = f'<path d="M96 206L104 {top + height}H136L144 206Z" fill="{dark}"/>'
    return (
        stand
        + _filled(f'<rect x="{left}" y="{top}" width="{width}" height="{height}" rx="10"', body)
        + f'<rect x="{left + 10}" y="{top + 10}" width="{width - 44}" height="{height - 20}" rx="5" fill="{dark}"/>'
        f'<path d="M{left + 18} {top + height - 22}L{left + width * 0.35} {top + 20}'
        f'L{left + width - 46} {top + height - 26}" fill="none" stroke="{trim}" stroke-width="4"/>{knobs}'
    )


def _chair(seed: bytes, body: str, trim: str, dark: str) -> str:
    width, back = 84 + seed[5] % 40, 60 + seed[6] % 40
    left = 120 - width / 2
    legs = "".join(
        f'<rect x="{x}" y="150" width="9" height="58" rx="4" fill="{dark}"/>' for x in (left + 6, left + width - 15)
    )
    return (
        legs
        + _filled(
            f'<rect x="{left + 4}" y="{132 - back}" width="{width - 8}" height="{back + 6}" rx="{seed[7] % 28}"', body
        )
        + f'<rect x="{left - 6}" y="128" width="{width + 12}" height="30" rx="10" fill="{body}"/>'
        f'<rect x="{left - 6}" y="150" width="{width + 12}" height="8" rx="4" fill="{trim}"/>'
    )


def _shirt(seed: bytes, body: str, trim: str, dark: str) -> str:
    hem, sleeve = 180 + seed[5] % 26, 96 + seed[6] % 60
    outline = (
        f"M92 54L58 72L36 {sleeve}L62 {sleeve + 14}L76 104V{hem}H164V104L178 {sleeve + 14}L204 {sleeve}L182 72L148 54"
        "Q120 80 92 54Z"
    )
    buttons = "".join(f'<circle cx="120" cy="{y}" r="4" fill="{dark}"/>' for y in range(90, hem - 8, 24))
    return (
        _filled(f'<path d="{outline}"', body)
        + f'<path d="M92 54Q120 80 148 54" fill="none" stroke="{dark}" stroke-width="6"/>'
        f'<path d="M76 {hem - 6}H164" stroke="{trim}" stroke-width="6"/>{buttons if seed[7] % 2 else ""}'
    )


def _jar(seed: bytes, body: str, trim: str, dark: str) -> str:
    width, top = 84 + seed[5] % 44, 80 + seed[6] % 40
    left = 120 - width / 2
    return (
        f'<rect x="{left + 4}" y="{top - 22}" width="{width - 8}" height="24" rx="6" fill="{dark}"/>'
        + _filled(f'<rect x="{left}" y="{top}" width="{width}" height="{206 - top}" rx="16"', body)
        + f'<circle cx="120" cy="{(top + 206) / 2}" r="{width * 0.3}" fill="{trim}"/>'
        f'<path d="M{120 - width * 0.18} {(top + 206) / 2 + 6}q{width * 0.18} {-30 - seed[7] % 16} {width * 0.36} 0z" '
        f'fill="{dark}"/>'
    )


def _box(seed: bytes, body: str, trim: str, dark: str) -> str:
    width, top = 96 + seed[5] % 50, 84 + seed[6] % 40
    left = 120 - width / 2
    return (
        _filled(f'<rect x="{left}" y="{top}" width="{width}" height="{206 - top}"', body)
        + f'<path d="M{left} {top}l18 -26h{width - 36}l18 26z" fill="{dark}"/>'
        f'<rect x="{120 - 9}" y="{top}" width="18" height="{206 - top}" fill="{trim}"/>'
    )


def _trousers(seed: bytes, body: str, trim: str, dark: str) -> str:
    hem, flare = 156 + seed[5] % 48, seed[6] % 14
    outline = f"M84 44H156L{166 + flare} {hem}H{132 - flare // 2}L120 92L{108 + flare // 2} {hem}H{74 - flare}Z"
    return (
        _filled(f'<path d="{outline}"', body) + f'<rect x="83" y="40" width="74" height="12" rx="3" fill="{dark}"/>'
        f'<circle cx="120" cy="46" r="4" fill="{trim}"/>'
    )


def _shoe(seed: bytes, body: str, trim: str, dark: str) -> str:
    top = 70 + seed[5] % 60
    laces = "".join(
        f'<path d="M{96 + 14 * i} {148 + 6 * i}l16 -10" stroke="{trim}" stroke-width="5"/>' for i in range(3)
    )
    return (
        _filled(f'<path d="M52 {top}H102L112 140Q150 152 186 166Q202 174 198 192H50Z"', body)
        + f'<rect x="46" y="188" width="156" height="{12 + seed[6] % 10}" rx="6" fill="{dark}"/>{laces}'
    )


def _dress(seed: bytes, body: str, trim: str, dark: str) -> str:
    hem, width = 176 + seed[5] % 30, 44 + seed[6] % 26
    return (
        _filled(f'<path d="M98 46Q120 66 142 46L150 104L{120 + width} {hem}H{120 - width}L90 104Z"', body)
        + f'<rect x="89" y="100" width="62" height="9" fill="{dark}"/>'
        f'<path d="M{122 - width} {hem - 5}H{118 + width}" stroke="{trim}" stroke-width="6"/>'
    )


def _bag(seed: bytes, body: str, trim: str, dark: str) -> str:
    width, top = 92 + seed[5] % 50, 84 + seed[6] % 30
    left = 120 - width / 2
    return (
        f'<path d="M94 {top + 8}v-18a26 26 0 0 1 52 0v18" fill="none" stroke="{dark}" stroke-width="9"/>'
        + _filled(f'<rect x="{left}" y="{top}" width="{width}" height="{206 - top}" rx="20"', body)
        + f'<rect x="{left + 12}" y="150" width="{width - 24}" height="40" rx="8" fill="{trim}"/>'
        f'<rect x="108" y="146" width="24" height="10" rx="4" fill="{dark}"/>'
    )


def _lamp(seed: bytes, body: str, trim: str, dark: str) -> str:
    top, width = 44 + seed[5] % 40, 36 + seed[6] % 24
    return (
        f'<rect x="116" y="{top + 50}" width="8" height="{150 - top}" fill="{dark}"/>'
        f'<ellipse cx="120" cy="202" rx="34" ry="8" fill="{dark}"/>'
        + _filled(f'<path d="M{120 - width * 0.6} {top}h{width * 1.2}l{width * 0.5} 64h-{width * 2.2}z"', body)
        + f'<rect x="{120 - width * 1.1}" y="{top + 60}" width="{width * 2.2}" height="6" fill="{trim}"/>'
    )


def _cloth(seed: bytes, body: str, trim: str, dark: str) -> str:
    width, height = 110 + seed[5] % 60, 90 + seed[6] % 60
    left, top = 120 - width / 2, 200 - height
    return (
        _filled(f'<rect x="{left}" y="{top}" width="{width}" height="{height}" rx="6"', body)
        + f'<rect x="{left + 8}" y="{top + 8}" width="{width - 16}" height="{height - 16}" rx="3" fill="none" '
        f'stroke="{trim}" stroke-width="5"/>'
        f'<path d="M{left} {top + height - 4}H{left + width}" stroke="{dark}" stroke-width="8" stroke-dasharray="4 5"/>'
    )


_BY_DEPARTMENT = {"beauty": _bottle, "electronics": _device, "garden": _chair, "fashion": _shirt, "grocery": _jar}

# The last of these words in a query decides: "shoe racks" are boxes.
_BY_WORD = {
    word: draw
    for draw, words in {
        _trousers: "jeans trousers pants leggings sweatpants shorts jumpsuits overalls tights",
        _shoe: "shoes boots slippers sneakers loafers sandals heels flats",
        _dress: "dresses skirts gowns",
        _bag: "backpacks wallets bags handbags purses luggage",
        _lamp: "lamps lamp lights light bulbs chandeliers sconces",
        _cloth: "rugs towels curtains sheets covers blankets doormats mats pillows mattresses toppers art scarves",
        _box: "racks baskets cabinets boxes bookcases benches shelves carts dressers",
        _device: "clocks mirrors frames",
    }.items()
    for word in words.split()
}
