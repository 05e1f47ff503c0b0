#!/bin/sh
# Reviews with nothing installed but a container engine. Rendered manifests come by standard input.
set -eu
ringfence() {
    docker run --rm --interactive --volume "$PWD:/work:ro" --workdir /work registry.example.com/ringfence:0.1.0 "$@"
}
ringfence review --context platform/ deploy/
cat deploy/*.yaml | ringfence review --context platform/ - # helm template chart/ | …, kustomize build overlays/prod | …
