"""Registers a flow as its team does: python flow.py POOL IMAGE. The flow's code is in the image, where the pod begins."""

import os
import sys

from prefect import flow


@flow(log_prints=True)
def triage():
    print("triaged as user", os.getuid())


if __name__ == "__main__":
    triage.deploy(name=sys.argv[1], work_pool_name=sys.argv[1], image=sys.argv[2], build=False, push=False)
