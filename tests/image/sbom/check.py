"""Holds a CycloneDX SBOM to the schema of its version, and each purl in it to what it stands beside. Says what is wrong, and nothing else."""

import json
import sys

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

text = open(sys.argv[1], encoding="utf-8").read()
sbom = json.loads(text)
version = SchemaVersion.from_version(sbom["specVersion"])
wrong = [str(error) for error in JsonStrictValidator(version).validate_str(text, all_errors=True) or []]

described = sbom["metadata"]["component"]
for component in [described, *described.get("components", []), *sbom["components"]]:
    try:
        purl = PackageURL.from_string(component["purl"])
    except (KeyError, ValueError) as error:
        wrong.append(f"{component['name']}: {error!r}")
        continue
    if (purl.type, purl.name, purl.version) != ("cargo", component["name"], component["version"]):
        wrong.append(f"{component['name']} {component['version']}: {component['purl']}")

sys.exit("\n".join(wrong) or None)
