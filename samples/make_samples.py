"""Write the sample files beside this script; the same bytes each time.

    python samples/make_samples.py

The texts are made up, from lists that are walked with steps that share no factor, so that names,
things and amounts meet in ever new ways.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

HERE = Path(__file__).parent
Line = dict[str, Any]

LABELS = "billing, shipping, bug, account, feature, praise, other"
PEOPLE = [
    "Amina Yusuf", "Jörg Schäfer", "Chloé Dubois", "陈伟", "Priya Raman", "Mateusz Wójcik", "Siobhán Kelly",
    "Luis Ibáñez", "Yuki Tanaka", "Olena Kovalenko", "Tom Becker", "Fatma Şahin", "Ingrid Løken",
    "Kwame Mensah", "Ana Gonçalves", "Νίκος Παππάς", "Grace Okafor",
]  # fmt: skip
PRODUCTS = [
    "Bergfink 45 l backpack", "Lumen desk lamp", "Corvo espresso grinder", "Nordkap rain jacket", "Aria headphones",
    "Tidepool fish tank", "Solstice tent", "Quill notebook set", "Pico 3D printer", "Harvest seed box",
    "Kestrel binoculars",
]  # fmt: skip
TICKETS = [
    ("My card was charged {amount} twice for the {product}. Please send one of them back.", "email"),
    ("Tracking for order {order} has said 'handed to courier' since {day}. Where is my {product}?", "chat"),
    ("Since the last update the app crashes when I scan the QR code on my {product}.", "app"),
    ("I can't log in: the password link in your email is always expired.", "email"),
    ("Would be lovely if the {product} guide could be read offline.", "form"),
    ("Great service! The {product} came a day early, thanks to your team in the warehouse.", "form"),
    ("Hat Ihr Laden in Graz am Samstag geöffnet? Ich würde mir gern den {product} ansehen.", "email"),
    ("The invoice for order {order} lacks our VAT number, and accounting can't book {amount}.", "email"),
    ("Le colis est arrivé ouvert, il manque une pièce du {product} (commande {order}).", "email"),
    ("The page with my orders stays blank in Firefox; the console shows error 500 for order {order}.", "chat"),
    ("Please delete my account and tell me when it is done. I ordered the {product} as a guest anyway.", "form"),
    ("You promised a refund of {amount} for order {order} on {day}; nothing has come to my card.", "phone"),
    ("Half of the {product} is missing from the package. Delivery note says complete.", "chat"),
    ("The {product} is fine, but could you add Apple Pay? Typing my card number is a nuisance.", "app"),
    ("¿El {product} se puede reparar fuera de garantía? Lo compré en 2021.", "email"),
    ("Two-factor codes never reach my phone since I moved to another carrier, so I am locked out.", "phone"),
]  # fmt: skip

OPINIONS = [
    ("Does what it says. After three months the {product} still looks new.", 5),
    ("Came late, and the manual is in Swedish only, but it works.", 3),
    ("Ich würde den {product} wieder kaufen, nur nicht in dieser Farbe.", 4),
    ("“Waterproof”, they said. It is not, and the seam came apart\non day two.", 1),
    ("Good value; the lid rattles, though. Would give 3.5 stars if I could.", 4),
    ("Returned it: too loud, too heavy, and it smells of glue.", 2),
    ("A gift for my father, who has used it every day since.", 5),
    ("Le {product} est arrivé rayé; le service a répondu en une heure.", 4),
    ("Broke in its first week, repaired free of charge, fine so far.", 3),
]

VENDORS = [
    ("Hansen & Lund ApS", "DKK"), ("Papeterie Moreau SARL", "EUR"), ("Kowalski Transport Sp. z o.o.", "PLN"),
    ("Brightwater Plumbing Ltd", "GBP"), ("Müller Bürotechnik GmbH", "EUR"), ("Cascade Roasters LLC", "USD"),
    ("Officina Ferri S.r.l.", "EUR"), ("株式会社みどり文具", "JPY"), ("Ríos y Hijos S.A.", "EUR"),
    ("Prairie Web Hosting Inc.", "CAD"), ("Tvättbjörnen Städ AB", "SEK"),
]  # fmt: skip
GOODS = [
    ("toner cartridges, black", 5, 7490), ("office cleaning, monthly", 1, 42000), ("A4 paper, boxes", 12, 2395),
    ("espresso beans, 1 kg", 8, 1850), ("replacement of a mixer tap", 1, 18900), ("pallet freight to Gdańsk", 2, 31250),
    ("domain renewal, one year", 3, 1599), ("desk chairs, repaired", 4, 6500), ("catering, 30 persons", 1, 71400),
    ("LED tubes, 120 cm", 20, 895), ("translation, per page", 14, 2800), ("bicycle courier, per trip", 9, 1240),
    ("fire extinguishers, inspected", 6, 3300),
]  # fmt: skip

SCREENS = [
    ("Settings", ["Language", "Notifications", "Delete my account", "Sign out of all devices", "Use dark theme"]),
    ("Checkout", ["Place order", "Delivery address", "Pay by invoice", "Your card was declined.", "Add a gift note"]),
    ("Search", ["No results for “{query}”.", "Sort by price", "Only in stock", "Clear filters", "Recently viewed"]),
    ("Editor", ["Undo", "Redo", "Unsaved changes", "Save a copy as…", "Insert page break"]),
    ("Upload", ["Drop files here", "{count} files selected", "File is too large (max. {size} MB).", "Try again", "Cancel upload"]),
    ("Sign-in", ["Forgot your password?", "Stay signed in", "Wrong email or password.", "Send code again", "Continue as guest"]),
    ("Calendar", ["All day", "Repeats every {n} weeks", "Invite people", "You are double-booked.", "Snooze for 10 minutes"]),
    ("Map", ["Avoid tolls", "Arrive by {time}", "Share my location", "Route recalculated", "Download this area"]),
    ("Player", ["Skip intro", "Playback speed", "Subtitles off", "Up next", "Sleep timer"]),
    ("Mail", ["Reply to all", "Mark as unread", "Move to spam", "You forgot the attachment.", "Undo send"]),
    ("Photos", ["Crop", "Remove red eye", "Show on map", "Hide from album", "Restore original"]),
    ("Bank", ["Available balance", "Standing orders", "Block this card", "Transfer scheduled for {date}", "Download statement"]),
    ("Fitness", ["Steps today", "Personal best", "Pause workout", "Connect a heart-rate strap", "Rest day"]),
    ("Library", ["Renew loan", "Overdue since {date}", "Place a hold", "{n} copies available", "Read a sample"]),
    ("Travel", ["Window seat", "Gate changed to {gate}", "Check in online", "Add checked baggage", "Rebook free of charge"]),
    ("Recipe", ["Serves {n}", "Add to shopping list", "Prep time", "Keep the screen on", "Swap ingredient"]),
    ("Chat", ["{name} is typing…", "Message deleted", "Mute for 8 hours", "Leave group", "Seen"]),
    ("Printer", ["Out of paper", "Print on both sides", "Replace cyan cartridge soon", "Scan to email", "Paper jam in tray {n}"]),
    ("Weather", ["Feels like {temp}°", "Chance of rain", "Gale warning", "Sunrise", "Next 7 days"]),
    ("Garden", ["Water every {n} days", "Frost tonight", "Repot in spring", "Add a plant", "Needs full sun"]),
    ("Survey", ["Strongly agree", "Neither agree nor disagree", "Skip this question", "{n} of {total} answered", "Submit answers"]),
    ("Clinic", ["Book an appointment", "Repeat prescription", "Bring your insurance card", "Test results are in.", "Emergency contact"]),
    ("Parking", ["Extend by 30 minutes", "Ticket expires at {time}", "Licence plate", "Lot is full", "Report a barrier"]),
    ("Game", ["New high score!", "Continue with an ad", "Mute music", "Level {n} cleared", "Invite a friend"]),
]  # fmt: skip

FAQ_TOPICS = [
    ("returns", "How long can I return {}?", "{} may be sent back within 30 days, unused and with its label; the refund takes up to five working days."),
    ("warranty", "What does the warranty on {} cover?", "Faults of material and workmanship of {} are covered for two years; wear and water damage are not."),
    ("care", "How do I clean {}?", "Wipe {} with a damp cloth and mild soap. No bleach, no dishwasher, and let it dry in the shade."),
    ("stock", "When will {} be back in stock?", "New deliveries of {} come every second Thursday; leave an address on the product page and we will write."),
    ("parts", "Do you sell spare parts for {}?", "Yes: straps, screws, filters and seals for {} are listed under Spare parts for at least seven years."),
    ("shipping", "How much is shipping for {}?", "Within the EU {} ships for €4.90, free from €60; Switzerland and Norway are €12 and take about a week."),
    ("size", "Which size of {} do I need?", "Measure twice and compare with the chart for {}; between two sizes, most customers keep the larger one."),
    ("repair", "Can {} be repaired?", "Our workshop in Freiburg repairs {}; describe the fault in the form and you get a fixed price first."),
    ("gift", "Can {} be wrapped as a gift?", "For €3 we wrap {} in recycled paper and leave the price off the delivery note."),
    ("origin", "Where is {} made?", "{} is designed in Bergen and made in Portugal, in a works that we visit twice a year."),
]  # fmt: skip
FAQ_THINGS = [
    "the backpack", "the desk lamp", "the coffee grinder", "the rain jacket", "the headphones",
    "the tent", "the notebook set", "the 3D printer", "the seed box", "the binoculars",
]  # fmt: skip

CITIES = [
    ("Lisboa", "Portugal", ["Rua Augusta 27", "Largo do Carmo 4", "Avenida da Liberdade 110", "Rua do Alecrim 58"]),
    ("Kraków", "Polska", ["ulica Floriańska 9", "Rynek Główny 1", "ulica Józefa 22", "ulica Długa 65"]),
    ("Köln", "Deutschland", ["Ehrenstraße 15", "Domkloster 4", "Venloer Straße 201", "Alter Markt 30"]),
    ("İstanbul", "Türkiye", ["İstiklal Caddesi 112", "Moda Caddesi 5", "Divan Yolu 14", "Bağdat Caddesi 301"]),
    ("京都市", "日本", ["四条通 12", "河原町通 88", "哲学の道 3", "烏丸通 540"]),
    ("Montréal", "Canada", ["rue Saint-Denis 4100", "avenue du Parc 5201", "rue Rachel Est 19", "boulevard Saint-Laurent 3700"]),
    ("Αθήνα", "Ελλάδα", ["Ερμού 44", "Ακαδημίας 7", "Πανεπιστημίου 30", "Αδριανού 91"]),
    ("São Paulo", "Brasil", ["Avenida Paulista 1578", "Rua Augusta 2203", "Rua Oscar Freire 379", "Alameda Santos 45"]),
    ("Kyiv", "Україна", ["вулиця Хрещатик 22", "Андріївський узвіз 13", "вулиця Саксаганського 70", "Поділ 8"]),
    ("Dublin", "Ireland", ["12 Grafton Street", "7 Camden Row", "31 Thomas Street", "90 Rathmines Road"]),
    ("Oslo", "Norge", ["Karl Johans gate 31", "Grünerløkka 6", "Bogstadveien 52", "Aker brygge 17"]),
    ("Nairobi", "Kenya", ["Moi Avenue 18", "Ngong Road 240", "Kenyatta Avenue 3", "Biashara Street 66"]),
    ("Wien", "Österreich", ["Mariahilfer Straße 85", "Kärntner Straße 12", "Naschmarkt 41", "Währinger Straße 150"]),
    ("México", "México", ["Avenida Álvaro Obregón 99", "Calle de Tacuba 8", "Avenida Ámsterdam 204", "Calle Londres 247"]),
    ("Chennai", "India", ["14 Mount Road", "Pondy Bazaar 33", "2 Besant Nagar 1st Avenue", "Mint Street 410"]),
    ("Reykjavík", "Ísland", ["Laugavegur 28", "Skólavörðustígur 11", "Bankastræti 2", "Hverfisgata 76"]),
    ("Praha", "Česko", ["Náměstí Míru 9", "Vinohradská 48", "Dlouhá 33", "Žitná 17"]),
    ("Gent", "België", ["Korenlei 10", "Veldstraat 82", "Vrijdagmarkt 24", "Sint-Pietersnieuwstraat 41"]),
    ("Cape Town", "South Africa", ["Long Street 210", "Kloof Street 93", "Bree Street 55", "Main Road 402, Sea Point"]),
    ("Łódź", "Polska", ["ulica Piotrkowska 138", "ulica Ogrodowa 17", "Plac Wolności 2", "ulica Tymienieckiego 5"]),
    ("Genève", "Suisse", ["rue du Rhône 62", "place du Bourg-de-Four 18", "rue de Lausanne 104", "quai Wilson 37"]),
    ("Bogotá", "Colombia", ["Carrera 7 # 32-16", "Calle 85 # 12-10", "Avenida Jiménez 4-35", "Calle 26 # 59-51"]),
    ("Hà Nội", "Việt Nam", ["36 Hàng Bạc", "12 Tràng Tiền", "88 Phố Huế", "5 Lý Thường Kiệt"]),
    ("Malmö", "Sverige", ["Södergatan 26", "Möllevångstorget 8", "Stora Nygatan 59", "Lilla Torg 1"]),
    ("Tbilisi", "საქართველო", ["რუსთაველის გამზირი 12", "Chavchavadze Avenue 37", "Leselidze Street 20", "Agmashenebeli 150"]),
]  # fmt: skip


def tickets() -> Iterator[Line]:
    """Yield 120 support tickets to classify, as prompts."""
    for i in range(120):
        text, channel = TICKETS[(i * 5) % len(TICKETS)]
        person = PEOPLE[(i * 3) % len(PEOPLE)]
        day = date(2026, 10, 1) + timedelta(days=i // 4)
        order = f"B-{48213 + i * 37}"
        ticket = text.format(
            product=PRODUCTS[(i * 7) % len(PRODUCTS)],
            amount=f"€{19 + (i * 13) % 180}.{(i * 5) % 10}0",
            order=order,
            day=f"{day - timedelta(days=2 + i % 6):%A}",
        )
        yield {
            "id": f"T-{10001 + i}",
            "system": "You sort support tickets for an outdoor and home shop. Answer with one label, nothing else.",
            "prompt": f"Sort this ticket into one of: {LABELS}.\n\n{ticket} {person}",
            "max_tokens": 16,
            "metadata": {
                "customer": person,
                "channel": channel,
                "received": f"{day:%Y-%m-%d}",
                "order": order,
            },
        }


def _money(cents: int, currency: str) -> str:
    """Write an amount; yen have no fractions."""
    return str(cents) if currency == "JPY" else f"{cents / 100:.2f}"


def invoices() -> Iterator[Line]:
    """Yield 110 invoices to read, as lines of a Message Batch."""
    for i in range(110):
        vendor, currency = VENDORS[i % len(VENDORS)]
        day = date(2026, 1, 7) + timedelta(days=i * 3)
        number = f"{day:%Y}-{317 + i * 11:05d}"
        rows, total = [], 0
        for k in range(1 + i % 3):
            goods, count, cents = GOODS[(i * 4 + k * 5) % len(GOODS)]
            count += (i + k) % 3
            total += count * cents
            price, amount = _money(cents, currency), _money(count * cents, currency)
            price, amount = _money(cents, currency), _money(count * cents, currency)
            rows.append(f"{count:>3} x {goods:<34} {price:>9} {amount:>10}")
        text = "\n".join(
            [
                vendor,
                f"Customer: {PEOPLE[(i * 5) % len(PEOPLE)]}",
                f"Invoice number: {number}",
                f"Invoice date: {day:%d.%m.%Y}",
                "",
                *rows,
                "",
                f"Currency: {currency}",
                f"Total: {_money(total, currency)}",
                f"Due date: {day + timedelta(days=(14, 30, 45)[i % 3]):%d.%m.%Y}",
            ]
        )
        task = (
            "Read the invoice and return a JSON object with the fields customer, invoice_number, "
            "invoice_date, currency, total and due_date. Dates as YYYY-MM-DD, no other text.\n\n"
        )
        yield {
            "custom_id": f"invoice-{number}",
            "params": {
                "model": "claude-haiku-4-5",
                "max_tokens": 300,
                "messages": [{"role": "user", "content": task + text}],
            },
        }


def translations() -> Iterator[Line]:
    """Yield 120 strings of user interfaces to translate, as lines of an OpenAI batch."""
    for screen, strings in SCREENS:
        for k, string in enumerate(strings):
            system = (
                "Translate the user-interface string into German. Informal (du), short, "
                "placeholders in braces unchanged. Answer with the translation alone."
            )
            yield {
                "custom_id": f"{screen.lower()}.{k + 1}",
                "method": "POST",
                "url": "/v1/chat/completions",
                "body": {
                    "model": "gpt-5-mini",
                    "messages": [
                        {"role": "system", "content": system},
                        {"role": "user", "content": f"Screen “{screen}”: {string}"},
                    ],
                    "max_completion_tokens": 200,
                },
            }


def embeddings() -> Iterator[Line]:
    """Yield 100 questions and answers to embed, as lines of an OpenAI batch."""
    for topic, question, answer in FAQ_TOPICS:
        for k, thing in enumerate(FAQ_THINGS):
            reply = answer.format(thing)
            text = f"{question.format(thing)}\n{reply[0].upper()}{reply[1:]}"
            yield {
                "custom_id": f"faq-{topic}-{k + 1:02d}",
                "method": "POST",
                "url": "/v1/embeddings",
                "body": {"model": "text-embedding-3-small", "input": text},
            }


def places() -> Iterator[Line]:
    """Yield 100 addresses to look up at a plain HTTP API, by GET and by POST."""
    n = 0
    for city, country, streets in CITIES:
        for street in streets:
            n += 1
            place = f"{street}, {city}, {country}"
            line: Line = {"custom_id": f"place-{n:03d}", "method": "GET"}
            if n % 3:
                yield line | {"url": f"/geocode?q={quote(place)}"}
            else:
                yield line | {"method": "POST", "url": "/geocode", "body": {"q": place}}


def reviews() -> Iterator[Line]:
    """Yield 99 reviews as a shop's table has them, for a template."""
    for k in range(99):
        product = PRODUCTS[k * 5 % len(PRODUCTS)]
        opinion, stars = OPINIONS[k * 4 % len(OPINIONS)]
        yield {
            "review": f"R-{k + 1:03d}",
            "product": product,
            "stars": stars,
            "buyer": PEOPLE[k * 7 % len(PEOPLE)],
            "text": opinion.format(product=product),
        }


FILES = {
    "classify-tickets.jsonl": tickets,
    "extract-invoices.jsonl": invoices,
    "translate-ui.jsonl": translations,
    "embed-faq.jsonl": embeddings,
    "http-geocode.jsonl": places,
}


TABLES = {"summarize-reviews.csv": reviews}


def table(rows: Iterable[Line]) -> bytes:
    """Return rows as CSV in UTF-8."""
    first, *rest = rows
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, list(first), lineterminator="\n")
    writer.writeheader()
    writer.writerows([first, *rest])
    return out.getvalue().encode()


def encoded(lines: Iterable[Line]) -> bytes:
    """Return lines as UTF-8 JSONL."""
    return b"".join(json.dumps(line, ensure_ascii=False).encode() + b"\n" for line in lines)


def main() -> None:
    """Write every file."""
    for name, make in FILES.items():
        (HERE / name).write_bytes(encoded(make()))
    for name, make in TABLES.items():
        (HERE / name).write_bytes(table(make()))


if __name__ == "__main__":
    main()
