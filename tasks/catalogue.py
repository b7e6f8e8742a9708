"""Reading the console's catalogue, `POST /resource/user/instance/list`: what can be rented where, and at what price.

The call is in no document of the API; a public third-party client says that it saw these fields. So everything here may be
missing, and nothing is launched or refused for what it says: it is an estimate for people to read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tasks.answers import NoAnswer, Reply
from tasks.bodies import HOURLY_CHARGE_MODES
from tasks.jobs import ON_DEMAND, SPOT
from tasks.listing import Unreadable
from tasks.verdicts import is_login_error, message_of

if TYPE_CHECKING:
    from tasks.request import LaunchRequest

HOURS = {"tidePerHour": 1, "perHour": 1, "perDay": 24, "perWeek": 24 * 7, "perMonth": 24 * 30}
"""Hours of one unit of a charge mode; a month is counted as 30 days."""

IN_STOCK = "InStock"
"""The only status of stock that can be rented, as far as is known."""


@dataclass(frozen=True)
class Offer:
    """One instance type in one region. `prices` are for one unit of the charge mode, in the account's currency."""

    stock: str | None = None
    prices: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Estimate:
    """What instances of one kind would cost: by the hour, and for the period that is paid for at once.

    `period` is None where the billing is by the hour and goes on until the instance ends; both are None where the price is not known.
    """

    per_hour: float | None = None
    period: float | None = None


@dataclass(frozen=True)
class Catalogue:
    """What can be rented: by instance type, region and whether it is spot."""

    offers: Mapping[tuple[str, str, bool], Offer]

    def offer(self, request: LaunchRequest) -> Offer:
        """What is known of a request's kind of instance; nothing, where the catalogue does not have it."""
        lane = (request.instance_type_id, request.region, request.is_spot_instance)
        return self.offers.get(lane, Offer())


def offer_of_lane(catalogue: Catalogue, lane: str) -> Offer | None:
    """What is known of the capacity that a lane waits for; None where the catalogue does not have it. See `lane_of`."""
    region, type_id, kind = [*lane.split("/"), "", ""][:3]
    return catalogue.offers.get((type_id, region, kind == SPOT)) if kind in (SPOT, ON_DEMAND) else None


def estimate(offer: Offer, request: LaunchRequest, count: int) -> Estimate:
    """What so many instances like this would cost."""
    mode, duration = request.billing.charge_mode, request.billing.duration
    price = offer.prices.get(mode)
    if price is None:
        return Estimate()
    period = None if mode in HOURLY_CHARGE_MODES else price * duration * count
    return Estimate(price / HOURS[mode] * count, period)


def read_catalogue(reply: Reply) -> Catalogue | Unreadable:
    """What an answer of the catalogue says. Rows that cannot be read are left out: then nothing is known of them."""
    if isinstance(reply, NoAnswer):
        return Unreadable(reply.reason)
    document = reply.document()
    if is_login_error(reply.status, document):
        return Unreadable(message_of(reply), login=True)
    if reply.status >= 400:
        return Unreadable(f"HTTP {reply.status}: {message_of(reply)}")
    if not isinstance(document.get("instanceInfos"), list):
        return Unreadable(message_of(reply))
    offers: dict[tuple[str, str, bool], Offer] = {}
    for kind, offer in _offers(document):
        if (
            kind not in offers or offers[kind].stock != IN_STOCK
        ):  # of rows of one kind, what can be rented counts
            offers[kind] = offer
    return Catalogue(offers)


def _offers(document: Mapping[str, Any]) -> Iterator[tuple[tuple[str, str, bool], Offer]]:
    for kind in _rows(document, "instanceInfos"):
        for region in _rows(kind, "regionInfos"):
            for one in _rows(region, "instanceTypeInfos"):
                type_id, region_id = one.get("instanceTypeId"), region.get("regionId")
                if not (isinstance(type_id, str) and isinstance(region_id, str)):
                    continue
                prices = {
                    row["chargeMode"]: float(row["price"])
                    for row in _rows(one, "price")
                    if row.get("chargeMode") in HOURS and _is_price(row.get("price"))
                }
                stock = one.get("stockStatus")
                offer = Offer(stock if isinstance(stock, str) and stock.isprintable() else None, prices)
                yield (type_id, region_id, kind.get("isSpotInstance") is True), offer


def _rows(holder: Mapping[str, Any], key: str) -> Iterator[dict[str, Any]]:
    rows = holder.get(key)
    return (row for row in (rows if isinstance(rows, list) else ()) if isinstance(row, dict))


def _is_price(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 10**12
