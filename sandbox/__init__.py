"""The world on localhost: a simulated cloud API with faults, and a throwaway Redis.

Written from the API's documented facts alone. It imports nothing else of this project, so that the two readings of
the contract (the client's and this one) can disagree where one of them is wrong.
"""

from sandbox.cloud import Cloud
from sandbox.faults import Fault, FaultPlan
from sandbox.options import CloudOptions
from sandbox.process import SandboxProcess
from sandbox.redis_server import RedisServer
from sandbox.serve import CloudServer, run_cloud, serve

__all__ = [
    "Cloud",
    "CloudOptions",
    "CloudServer",
    "Fault",
    "FaultPlan",
    "RedisServer",
    "SandboxProcess",
    "run_cloud",
    "serve",
]
