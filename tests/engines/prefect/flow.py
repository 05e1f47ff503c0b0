"""Registers a flow as its team does: python flow.py POOL. The flow's code is in the image."""

import sys

from prefect import flow


@flow
def triage():
    pass


if __name__ == "__main__":
    triage.from_source(source=sys.path[0], entrypoint="flow.py:triage").deploy(
        name=sys.argv[1], work_pool_name=sys.argv[1], build=False, push=False, image=None
    )
