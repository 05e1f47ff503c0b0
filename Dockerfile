# A static binary on an empty image: docker build --build-arg REVISION="$(git rev-parse HEAD)" -t ringfence .
#
# For more than one architecture: docker buildx build --platform linux/amd64,linux/arm64. Each compiles for itself, on a node of its own or
# emulated. With --build-context binary=DIR the first stage is left out, and DIR holds what image/compile.sh wrote: so does `make image`.
FROM rust:1.95-bookworm AS binary
RUN apt-get update && apt-get install -y --no-install-recommends musl-tools && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN image/compile.sh /

# The same with a shell, for CI jobs that need one: docker build --target ci
FROM debian:bookworm-slim AS ci
COPY --from=binary /ringfence /usr/local/bin/ringfence
COPY --from=binary /ringfence.cdx.json /usr/local/share/ringfence.cdx.json
USER 65532:65532

FROM scratch
ARG REVISION=unknown
LABEL org.opencontainers.image.title="ringfence" \
      org.opencontainers.image.description="A Kubernetes admission controller and operator that puts a fence around AI workflows" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=binary /ringfence /ringfence.cdx.json /
USER 65532:65532
EXPOSE 9443 8080
ENTRYPOINT ["/ringfence"]
CMD ["run"]
