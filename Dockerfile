# An image with dmarcd and nothing else: no shell, no PostgreSQL. It wants a
# database from DMARCD_DATABASE_URL or DMARCD_DATABASE_URL_FILE.
#
#   docker build -t dmarcd .
#   docker build -t dmarcd --build-arg VERSION=$(git describe --tags --always) --build-arg COMMIT=$(git rev-parse HEAD) .

FROM --platform=$BUILDPLATFORM golang:1.26 AS modules
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download

FROM modules AS build
COPY . .
ARG TARGETOS
ARG TARGETARCH
ARG VERSION=devel
ARG COMMIT=
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath -buildvcs=false \
        -ldflags "-s -w -X main.version=$VERSION -X main.commit=$COMMIT" \
        -o /image/usr/bin/dmarcd ./cmd/dmarcd
# What a program expects of a system: certificates to trust, a user, a place
# for temporary files, and its data directory.
RUN install -d -m 755 /image/etc/ssl/certs \
    && cp /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ \
    && echo 'dmarcd:x:65532:65532:dmarcd:/var/lib/dmarcd:/' > /image/etc/passwd \
    && echo 'dmarcd:x:65532:' > /image/etc/group \
    && install -d -m 1777 /image/tmp \
    && install -d -m 700 -o 65532 -g 65532 /image/var/lib/dmarcd

FROM scratch
COPY --from=build /image /
USER 65532:65532
ENV DMARCD_DATA_DIR=/var/lib/dmarcd
# All addresses of the container, since its loopback cannot be published.
# dmarcd refuses this unless people are asked who they are, or DMARCD_INSECURE=true says that
# whoever reaches the published port may see everything.
ENV DMARCD_LISTEN=0.0.0.0:8080
EXPOSE 8080
VOLUME /var/lib/dmarcd
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --start-interval=1s CMD ["/usr/bin/dmarcd", "healthcheck"]
ENTRYPOINT ["/usr/bin/dmarcd"]
CMD ["serve"]
