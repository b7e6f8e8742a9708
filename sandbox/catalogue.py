"""The console's catalogue: which instance types can be rented where, and at what price.

The shape is that of ``POST /resource/user/instance/list``; ids, names and prices are made up. ``InStock`` is the only
documented stock status that can be rented.
"""

from collections.abc import Mapping
from typing import Any

from sandbox.instances import Lane

REGION_ID = "fce31a0c-0000-4000-8000-41caa1bdd251"
OTHER_REGION_ID = "0b5c41d2-0000-4000-8000-7d1f3c9e2a10"

_REGIONS = {REGION_ID: "sandbox-north", OTHER_REGION_ID: "sandbox-south"}
_TYPES = (
    ("dc25f5be-0000-4000-8000-5030e3358c41", "H800", 1, False, 12.0),
    ("c531be90-0000-4000-8000-59d3d911e29e", "H800", 8, False, 96.0),
    ("dc25f5be-0000-4000-8000-5030e3358c41", "H800", 1, True, 5.0),
)
_HOURS = {"tidePerHour": 0.6, "perHour": 1.0, "perDay": 22.0, "perWeek": 145.0, "perMonth": 580.0}


def catalogue(free: Mapping[Lane, int]) -> dict[str, Any]:
    """The answer's body; lanes without free places are not in stock."""
    return {
        "instanceInfos": [
            {
                "gpuName": gpu_name,
                "isSpotInstance": spot,
                "regionInfos": [
                    {
                        "regionName": region_name,
                        "regionId": region_id,
                        "instanceTypeInfos": [
                            {
                                "instanceTypeId": type_id,
                                "gpuNum": gpu_num,
                                "stockStatus": "InStock"
                                if free.get(Lane(region_id, type_id, spot), 1) > 0
                                else "OutOfStock",
                                "price": [
                                    {"chargeMode": mode, "price": round(hourly * hours, 2)}
                                    for mode, hours in _HOURS.items()
                                ],
                            }
                        ],
                    }
                    for region_id, region_name in _REGIONS.items()
                ],
            }
            for type_id, gpu_name, gpu_num, spot, hourly in _TYPES
        ]
    }
