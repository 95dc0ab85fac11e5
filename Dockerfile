# Builds with any Dockerfile builder: `make image`, or `docker build --tag ccfs-worker .`
# For one SOURCE_DATE_EPOCH, file times rewritten to it, two builds are one image: docs/releasing.md.

ARG BASE=docker.io/library/debian:trixie-20260918-slim@sha256:a99cfc517144bc59b1978475ec53b46ecabec7e43635402ee5b77cc54cd1b20a

FROM ${BASE} AS debian

# Debian's images name, in a comment beside the mirror, the archive as it was on their day. Packages come from there:
# a later build gets the same ones, and newer fixes come with a newer base. What that day called valid has expired.
RUN find /etc/apt/sources.list.d -name '*.sources' -exec sed -i '/^# http/{N;s/^# \(.*\)\nURIs:.*/URIs: \1/}' {} + \
 && echo 'Acquire::Check-Valid-Until "false";' > /etc/apt/apt.conf.d/80snapshot

FROM debian AS build

# Where it is set, byte code is checked against its source by hash and not by time.
ARG SOURCE_DATE_EPOCH
RUN apt-get update \
 && apt-get install --yes --no-install-recommends python3-venv
WORKDIR /src
COPY requirements.lock requirements-build.lock ./
# pip stays out of the environment that is shipped. Only wheels: no compiler, no code of others run here.
RUN python3 -m venv /tools \
 && python3 -m venv --without-pip /opt/ccfs-worker \
 && /tools/bin/pip install --no-cache-dir --require-hashes --only-binary :all: -r requirements-build.lock \
 && /tools/bin/pip --python /opt/ccfs-worker/bin/python install \
        --no-cache-dir --require-hashes --no-deps --only-binary :all: -r requirements.lock
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY schemas schemas
COPY worker worker
RUN /tools/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /dist . \
 && /tools/bin/pip --python /opt/ccfs-worker/bin/python install --no-cache-dir --no-deps --no-index /dist/*.whl

FROM debian

ARG SOURCE_DATE_EPOCH
# tini: as process 1 Python would not hear a SIGTERM before the worker has set up its own handler.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates python3 tini \
 && useradd --uid 10001 --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin ccfs-worker \
 && find / -xdev -perm /6000 -type f -exec chmod a-s {} + \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/*-old \
        /var/cache/ldconfig/aux-cache /var/lib/dpkg/*-old /var/log/* /tmp/*
COPY --from=build /opt/ccfs-worker /opt/ccfs-worker

ENV PATH=/opt/ccfs-worker/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 10001:10001
EXPOSE 8080
ENTRYPOINT ["tini", "--", "ccfs-worker"]
CMD ["run"]

ARG VERSION=unknown
ARG REVISION=unknown
ARG CREATED=unknown
ARG BASE
ARG BASE_DIGEST=unknown
LABEL org.opencontainers.image.title="ccfs-worker" \
      org.opencontainers.image.description="Moves call records from CC-FS to shared storage: RabbitMQ jobs in, verified files and confirmed outcomes out." \
      org.opencontainers.image.authors="The ccfs-worker authors" \
      org.opencontainers.image.vendor="The ccfs-worker authors" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.url="https://ccfs-worker.example.com/" \
      org.opencontainers.image.documentation="https://ccfs-worker.example.com/" \
      org.opencontainers.image.source="https://github.example.com/ccfs/ccfs-worker" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.base.name="${BASE}" \
      org.opencontainers.image.base.digest="${BASE_DIGEST}"
