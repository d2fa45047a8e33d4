"""The forms in which a server or a library may repeat a key, for tests."""

import base64
import html
import json
import urllib.parse


def encodings(key: str) -> dict[str, str]:
    """Return a key in each form, by its name."""
    octets = key.encode()
    return {
        "as it is": key,
        "JSON": json.dumps(key)[1:-1],
        "JSON in JSON": json.dumps(json.dumps(key)[1:-1])[1:-1],
        "JSON with escaped slashes": json.dumps(key)[1:-1].replace("/", r"\/"),
        "JSON, every character": "".join(f"\\u{ord(c):04x}" for c in key),
        "JSON, every character, in capitals": "".join(f"\\u{ord(c):04X}" for c in key),
        "JSON, every second character": "".join(f"\\u{ord(c):04x}" if i % 2 else c for i, c in enumerate(key)),
        "Python": repr(key)[1:-1],
        "Python's hexadecimal": "".join(f"\\x{ord(c):02x}" for c in key),
        "C": "".join(f"\\{ord(c):03o}" for c in key),
        "in an address": urllib.parse.quote(key, safe=""),
        "in an address, every character": "".join(f"%{ord(c):02x}" for c in key),
        "in an address in an address": urllib.parse.quote(urllib.parse.quote(key, safe=""), safe=""),
        "HTML": html.escape(key),
        "HTML in HTML": html.escape(html.escape(key)),
        "HTML, numbers": "".join(f"&#{ord(c)};" for c in key),
        "HTML, hexadecimal": "".join(f"&#x{ord(c):X};" for c in key),
        "base64 of the header": base64.b64encode(b"Bearer " + octets).decode(),
    } | (
        {}
        if len(key) < 8
        else {
            "base64": base64.b64encode(octets).decode(),
            "base64 in a text": base64.b64encode(b"the key is " + octets + b", thanks").decode(),
            "base64 for addresses": base64.urlsafe_b64encode(b"x" + octets).decode(),
            "hexadecimal": octets.hex(),
            "capitals": key.upper(),
            "small letters": key.lower(),
        }
    )


def found_in(content: bytes, key: str) -> list[str]:
    """Return the names of the forms of a key that occur in a file's content."""
    text = content.decode("utf-8", "replace")
    # What of base64 depends on the neighbours is left out.
    forms = {name: form[2:-4] if "base64" in name else form for name, form in encodings(key).items()}
    return [name for name, form in forms.items() if form in text]
