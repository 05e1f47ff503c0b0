# A static binary on an empty image. Build: docker build -t ringfence .
FROM rust:1.95-bookworm AS build
ARG TARGETARCH=amd64
# musl, because a scratch image has no C library to load; ring compiles C and assembly for it.
RUN apt-get update && apt-get install -y --no-install-recommends musl-tools && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN case "$TARGETARCH" in amd64) arch=x86_64 ;; arm64) arch=aarch64 ;; *) echo "no build for $TARGETARCH" >&2; exit 1 ;; esac \
 && rustup target add "$arch-unknown-linux-musl" \
 && cargo build --release --locked --bin ringfence --target "$arch-unknown-linux-musl" \
 && cp "target/$arch-unknown-linux-musl/release/ringfence" /ringfence

# The same with a shell, for CI jobs that need one: docker build --target ci
FROM debian:bookworm-slim AS ci
COPY --from=build /ringfence /usr/local/bin/ringfence
USER 65532:65532

FROM scratch
LABEL org.opencontainers.image.title="ringfence" \
      org.opencontainers.image.description="A fence around AI workflows on Kubernetes" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /ringfence /ringfence
USER 65532:65532
EXPOSE 9443 8080
ENTRYPOINT ["/ringfence"]
CMD ["run"]
