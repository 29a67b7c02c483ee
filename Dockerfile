# SPDX-License-Identifier: Apache-2.0
#
#   docker build -t hfreduce .
#   docker run --rm hfreduce bench -np 4 --nodes 2 -b 8 -e 64M -f 2
#
# The program needs no privilege and no larger /dev/shm: a node's ranks share memory by memfd. Ranks in different
# containers are different nodes to each other unless the containers share their network namespace. RDMA needs the devices and
# the right to lock memory: --device /dev/infiniband --ulimit memlock=-1

FROM --platform=$BUILDPLATFORM golang:1.26-bookworm AS build
# The header is all that is needed to build; the library is loaded at run time.
RUN apt-get update && apt-get install -y --no-install-recommends libibverbs-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY . .
ARG TARGETOS=linux
ARG TARGETARCH
RUN --mount=type=cache,target=/go/pkg/mod \
    --mount=type=cache,target=/root/.cache/go-build \
    GOOS=$TARGETOS GOARCH=$TARGETARCH make build

FROM debian:bookworm-slim
LABEL org.opencontainers.image.title="hfreduce" \
      org.opencontainers.image.description="Allreduce for GPU training nodes without NVLink" \
      org.opencontainers.image.source="https://github.com/hfreduce/hfreduce" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN apt-get update && apt-get install -y --no-install-recommends libibverbs1 ibverbs-providers && rm -rf /var/lib/apt/lists/*
COPY --from=build /src/bin/hfreduce /usr/local/bin/hfreduce
COPY --from=build /src/LICENSE /usr/share/doc/hfreduce/LICENSE
# Any user will do, also one that the image does not know. The number, so that Kubernetes can tell it is not root.
USER 65532:65532
ENTRYPOINT ["hfreduce"]
CMD ["--help"]
