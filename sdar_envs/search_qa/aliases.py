"""Other right spellings of the embedded questions' golden answers, which are no part of the questions' file.

The names in that file come from one source each. Capitals and adjectives of nationality were compared with countryinfo
1.0.1 and GeoNames, names of countries and currencies with CLDR (Babel 2.19.0); languages, mountains, cities and goods
were checked by hand. What differs is listed here, with English spellings that are common and mean nothing else. A
spelling counts for one kind of answer only: South Tarawa is a capital, and no name of a country.

Accents are no part of the comparison (`sdar_envs.search_qa.scoring.fold`), nor is what `variants` changes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

__all__ = ["aliases_of", "variants"]

# Relations whose values are names of countries, states or cities, and so "name".
_NAMES = frozenset(
    {"city", "country", "export_partner", "found_in", "import_partner", "independent_from", "only_neighbour", "state"}
)

_ALIASES: Mapping[str, Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "adjective": {
            "Argentine": ("Argentinean", "Argentinian"),
            "Azerbaijani": ("Azeri",),
            "Basotho": ("Mosotho", "Lesotho"),
            "Bissau-Guinean": ("Guinea-Bissauan",),
            "Cabo Verdean": ("Cape Verdean", "Cape Verdian"),
            "Comoran": ("Comorian",),
            "Ecuadorian": ("Ecuadorean",),
            "Ivoirian": ("Ivorian",),
            "Kazakhstani": ("Kazakh",),
            "Kyrgyzstani": ("Kyrgyz", "Kirghiz"),
            "Macedonian": ("North Macedonian",),
            "Malagasy": ("Madagascan",),
            "Maldivian": ("Maldivan",),
            "Nepali": ("Nepalese",),
            "Ni-Vanuatu": ("Vanuatuan",),
            "Philippine": ("Filipino",),
            "Sammarinese": ("San Marinese",),
            "Sao Tomean": ("Santomean",),
            "Slovak": ("Slovakian",),
            "Slovenian": ("Slovene",),
            "Tajikistani": ("Tajik", "Tadzhik"),
            "Timorese": ("East Timorese",),
            "Turkmenistani": ("Turkmen",),
        },
        "capital": {
            "Asmara": ("Asmera",),
            "Beijing": ("Peking",),
            "Bern": ("Berne",),
            "Tarawa": ("South Tarawa",),
            "Tehran": ("Teheran",),
            "Ulaanbaatar": ("Ulan Bator",),
        },
        "currency": {
            "balboa": ("Panamanian balboa",),
            "Belizean dollar": ("Belize dollar",),
            "birr": ("Ethiopian birr",),
            "boliviano": ("Bolivian boliviano",),
            "Botswana pula": ("Botswanan pula", "pula"),
            "Bruneian dollar": ("Brunei dollar",),
            "Burundi franc": ("Burundian franc",),
            "Cabo Verdean escudo": ("Cape Verdean escudo",),
            "Comoran franc": ("Comorian franc",),
            "convertible mark": ("Bosnia-Herzegovina convertible mark", "Bosnian convertible mark"),
            "cordoba": ("Nicaraguan córdoba",),
            "dalasi": ("Gambian dalasi",),
            "dong": ("Vietnamese dong",),
            "dram": ("Armenian dram",),
            "Emirati dirham": ("United Arab Emirates dirham",),
            "forint": ("Hungarian forint",),
            "gourde": ("Haitian gourde",),
            "Guyanese dollar": ("Guyanaese dollar", "Guyana dollar"),
            "hryvnia": ("Ukrainian hryvnia",),
            "kina": ("Papua New Guinean kina",),
            "kip": ("Laotian kip", "Lao kip"),
            "kwanza": ("Angolan kwanza",),
            "Kyrgyzstani som": ("Kyrgyz som",),
            "lari": ("Georgian lari",),
            "Mongolian tögrög": ("Mongolian tugrik",),
            "nakfa": ("Eritrean nakfa",),
            "ngultrum": ("Bhutanese ngultrum",),
            "pa'anga": ("Tongan paʻanga",),
            "pound sterling": ("British pound", "British pound sterling"),
            "rand": ("South African rand",),
            "riel": ("Cambodian riel",),
            "ringgit": ("Malaysian ringgit",),
            "rufiyaa": ("Maldivian rufiyaa",),
            "Russian ruble": ("Russian rouble",),
            "Seychelles rupee": ("Seychellois rupee",),
            "taka": ("Bangladeshi taka",),
            "tenge": ("Kazakhstani tenge",),
            "United States dollar": ("US dollar", "U.S. dollar", "American dollar"),
            "vatu": ("Vanuatu vatu",),
            "yen": ("Japanese yen",),
        },
        "farm_product": {"maize": ("corn",), "soybeans": ("soy beans", "soya beans"), "sugarcane": ("sugar cane",)},
        "highest_point": {
            "Aragats Lerrnagagat'": ("Mount Aragats", "Aragats"),
            "Bazarduzu Dagi": ("Bazarduzu", "Mount Bazarduzu"),
            "Cerro Aconcagua": ("Aconcagua", "Mount Aconcagua"),
            "Cerro Chirripo": ("Chirripo", "Mount Chirripo"),
            "Chimborazo": ("Mount Chimborazo",),
            "Fan Si Pan": ("Fansipan",),
            "Gerlachovsky Stit": ("Gerlach Peak",),
            "Gora El'brus": ("Mount Elbrus", "Elbrus"),
            "Gunung Kinabalu": ("Mount Kinabalu", "Kinabalu"),
            "Halla-san": ("Mount Halla", "Mount Hallasan"),
            "Hora Hoverla": ("Hoverla", "Mount Hoverla"),
            "Jabal an Nabi Shu'ayb": ("Jabal an-Nabi Shu'ayb",),
            "Jebel Toubkal": ("Toubkal", "Mount Toubkal"),
            "Juliana Top": ("Julianatop",),
            "Kanchenjunga": ("Kangchenjunga",),
            "Kilimanjaro": ("Mount Kilimanjaro",),
            "Kuh-e Damavand": ("Mount Damavand", "Damavand"),
            "Moldoveanu": ("Moldoveanu Peak",),
            "Mount Everest": ("Everest",),
            "Mount Fuji": ("Fuji",),
            "Mt. Fogo": ("Pico do Fogo",),
            "Mt'a Shkhara": ("Shkhara", "Mount Shkhara"),
            "Musala": ("Musala Peak",),
            "Nevado Huascaran": ("Huascaran",),
            "Nevado Ojos del Salado": ("Ojos del Salado",),
            "Nevado Sajama": ("Sajama",),
            "Noshak": ("Noshaq",),
            "Paektu-san": ("Mount Paektu", "Paektu Mountain", "Baekdu Mountain", "Mount Baekdu"),
            "Puncak Jaya": ("Carstensz Pyramid",),
            "Qullai Somoniyon": ("Ismoil Somoni Peak", "Communism Peak"),
            "Ras Dejen": ("Ras Dashen", "Ras Dashan"),
            "Triglav": ("Mount Triglav",),
            "Volcan Karisimbi": ("Mount Karisimbi", "Karisimbi"),
            "Volcan Pico de Orizaba": ("Pico de Orizaba", "Citlaltepetl"),
            "Volcan Tajumulco": ("Tajumulco",),
        },
        "language": {
            "Bahasa Malaysia": ("Malay", "Bahasa Melayu", "Malaysian"),
            "Lao": ("Laotian",),
            "Khmer": ("Cambodian",),
            "Spanish": ("Castilian",),
            "Tajik": ("Tajiki",),
        },
        "lowest_point": {
            "Chott Melrhir": ("Chott Melghir",),
            "Lac Assal": ("Lake Assal",),
            "Lago Enriquillo": ("Lake Enriquillo",),
            "Lake Eyre": ("Kati Thanda-Lake Eyre",),
            "Mekong River": ("Mekong",),
            "Moselle River": ("Moselle",),
            "Neusiedler See": ("Lake Neusiedl",),
            "Rio Paraguay": ("Paraguay River",),
            "Tisza River": ("Tisza",),
            "Turpan Pendi": ("Turpan Depression",),
            "Zambezi river": ("Zambezi",),
        },
        "name": {
            "Aluminum": ("Aluminium",),
            "Bosnia and Herzegovina": ("Bosnia-Herzegovina",),
            "Brugge": ("Bruges",),
            "Brunei": ("Brunei Darussalam",),
            "China": ("People's Republic of China",),
            "Dihok": ("Duhok",),
            "Fes": ("Fez",),
            "Hannover": ("Hanover",),
            "Ireland": ("Republic of Ireland",),
            "Köln": ("Cologne",),
            "Laos": ("Lao People's Democratic Republic",),
            "Moldova": ("Republic of Moldova",),
            "North Korea": ("Democratic People's Republic of Korea",),
            "North Macedonia": ("Republic of North Macedonia", "Republic of Macedonia"),
            "Nay Pyi Taw": ("Naypyidaw",),
            "Pilsen": ("Plzen",),
            "Russia": ("Russian Federation",),
            "Syria": ("Syrian Arab Republic",),
            "Tanzania": ("United Republic of Tanzania",),
            "Vatican City": ("Vatican City State",),
            "Vietnam": ("Viet Nam",),
        },
        "top_export": {
            "aluminum": ("aluminium",),
            "aluminum oxide": ("aluminium oxide",),
            "corn": ("maize",),
            "crude petroleum": ("crude oil",),
            "fertilizers": ("fertilisers",),
            "soybeans": ("soy beans", "soya beans"),
        },
    }
)

# Where one golden answer has different other spellings, by the passage that contains the answer.
_ALIASES_OF_PASSAGES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"country/KP/adjective": ("North Korean",), "country/KR/adjective": ("South Korean",)}
)

_RULES = (
    (re.compile(r"\bSaint\b"), "St."),
    (re.compile(r"\bSt\.(?=\s)"), "Saint"),
    (re.compile(r"\bMount\b"), "Mt."),
    (re.compile(r"\bMt\.(?=\s)"), "Mount"),
    (re.compile(r"\band\b"), "&"),
    (re.compile(r"-"), " "),
    (re.compile(r" (?:County|Parish|Borough)$"), ""),
)


def aliases_of(question_id: str, answers: Sequence[str], supporting: Sequence[str]) -> tuple[str, ...]:
    """Return the other right spellings of an embedded question's golden answers.

    Args:
        question_id: its id, whose parts name what is asked.
        answers: its golden answers, the preferred one first.
        supporting: ids of its passages, the one with the answer last.
    """
    relation = _asked(question_id)
    listed = _ALIASES.get(relation, {}).get(answers[0], ())
    own = _ALIASES_OF_PASSAGES.get(supporting[-1], ()) if supporting[-1].endswith(f"/{relation}") else ()
    spellings = (*answers, *listed, *own)
    found = dict.fromkeys((*listed, *own, *(variant for text in spellings for variant in variants(text))))
    return tuple(text for text in found if text not in answers)


def variants(name: str) -> Iterator[str]:
    """Yield a name with other forms of Saint, Mount and "and", with spaces for hyphens, and without "County"."""
    for pattern, other in _RULES:
        changed = pattern.sub(other, name)
        if changed != name:
            yield changed


def _asked(question_id: str) -> str:
    """Return the relation that a question asks for, `name` if it asks for a subject."""
    _, form, *rest = question_id.split("/")
    if form in {"which", "compare"} or rest[0].startswith("which."):
        return "name"
    relation = rest[-2].rpartition(".")[2]
    return "name" if relation in _NAMES else relation
