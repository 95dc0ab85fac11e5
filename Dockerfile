# Builds with any Dockerfile builder: `make image`, or `docker build --tag ccfs-worker .`

ARG BASE=docker.io/library/debian:trixie-20260918-slim@sha256:a99cfc517144bc59b1978475ec53b46ecabec7e43635402ee5b77cc54cd1b20a

FROM ${BASE} AS build

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
COPY pyproject.toml README.md ./
COPY schemas schemas
COPY worker worker
RUN /tools/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /dist . \
 && /tools/bin/pip --python /opt/ccfs-worker/bin/python install --no-cache-dir --no-deps --no-index /dist/*.whl

FROM ${BASE}

# tini: as process 1 Python would not hear a SIGTERM before the worker has set up its own handler.
RUN apt-get update \
 && apt-get upgrade --yes \
 && apt-get install --yes --no-install-recommends ca-certificates python3 tini \
 && useradd --uid 10001 --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin ccfs-worker \
 && find / -xdev -perm /6000 -type f -exec chmod a-s {} + \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/*-old /var/log/* /tmp/*
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
LABEL org.opencontainers.image.title="ccfs-worker" \
      org.opencontainers.image.description="Moves call records from CC-FS to shared storage: RabbitMQ jobs in, verified files and confirmed outcomes out." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.base.name="docker.io/library/debian:trixie-slim"
