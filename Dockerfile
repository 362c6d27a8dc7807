# syntax=docker/dockerfile:1

# One image for all commands: `serve` (the default), `worker`, `migrate` and the rest of `sms-foundation --help`.
# It runs as nobody in particular, writes nothing but /tmp, and holds no compiler, no pip and no database.
ARG PYTHON_VERSION=3.13
ARG DEBIAN_RELEASE=trixie
# The pipeline gives both by digest (name@sha256:...), so that an image can be made again; by hand, the newest will do.
ARG BUILD_BASE=python:${PYTHON_VERSION}-${DEBIAN_RELEASE}
ARG RUNTIME_BASE=python:${PYTHON_VERSION}-slim-${DEBIAN_RELEASE}


# Everything that is needed to install stays in this stage.
FROM ${BUILD_BASE} AS build
WORKDIR /build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ONLY_BINARY=:all: PIP_ROOT_USER_ACTION=ignore
RUN python -m venv --without-pip /opt/sms-foundation

# Dependencies first: this layer is made again only when the lock changes. The lock of the developers' tools pins
# everything, so it also says which extras (a redis client, traces) and which build backend are meant.
COPY requirements.txt requirements-dev.txt ./
RUN pip --python /opt/sms-foundation/bin/python install --no-compile \
        -r requirements.txt -c requirements-dev.txt \
        redis opentelemetry-sdk opentelemetry-exporter-otlp-proto-http \
    && pip install -c requirements-dev.txt hatchling

COPY pyproject.toml README.md ./
COPY src src
RUN pip wheel --no-deps --no-build-isolation --wheel-dir wheels . \
    && pip --python /opt/sms-foundation/bin/python install --no-compile --no-deps wheels/*.whl

# Two thirds of what the wheels bring is never read: debug symbols, C sources, and where in the world a number lies.
COPY infrastructure/container/slim.sh infrastructure/container/compile_what_is_loaded.py ./
RUN sh slim.sh /opt/sms-foundation && /opt/sms-foundation/bin/python compile_what_is_loaded.py packages


# Python as it comes, less what only those need who install or draw windows, and with bytecode, which it comes without.
# Two lines instead of useradd, which would write down the day: the same sources must give the same image.
FROM ${RUNTIME_BASE} AS python
WORKDIR /usr/local
RUN rm -rf bin/pip* bin/idle* bin/pydoc* bin/python*-config include lib/pkgconfig share/man \
        lib/python3.*/site-packages/* lib/python3.*/ensurepip lib/python3.*/idlelib lib/python3.*/tkinter \
        lib/python3.*/turtledemo lib/python3.*/pydoc_data \
    && echo 'sms:x:10001:10001::/tmp:/usr/sbin/nologin' >> /etc/passwd \
    && echo 'sms:x:10001:' >> /etc/group
RUN --mount=type=bind,from=build,source=/opt/sms-foundation,target=/opt/sms-foundation \
    --mount=type=bind,from=build,source=/build,target=/build \
    /opt/sms-foundation/bin/python /build/compile_what_is_loaded.py standard-library


# From nothing: what was removed above would otherwise still be carried along, in a layer below.
FROM scratch AS runtime
# hadolint ignore=DL3067
COPY --from=python / /
COPY --from=build /opt/sms-foundation /opt/sms-foundation
COPY --chmod=0444 infrastructure/container/healthcheck.py /opt/sms-foundation/healthcheck.py

# Cloud Run gives another PORT and means it; everything else about where and how comes from the environment as well.
ENV PATH=/opt/sms-foundation/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    HOST=0.0.0.0 \
    PORT=8080 \
    LOG_FORMAT=json

# Which source this is, for whoever finds the image later. After the layers, so that they stay the same.
ARG VERSION=0.0.0
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
ARG SOURCE=unknown
ARG RUNTIME_BASE
LABEL org.opencontainers.image.title="SMS Foundation" \
      org.opencontainers.image.description="One service through which an organisation's every text message comes in and goes out" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.base.name="docker.io/library/${RUNTIME_BASE}"

# By number, so that Kubernetes can see that it is not root.
USER 10001:10001
WORKDIR /opt/sms-foundation
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "-I", "/opt/sms-foundation/healthcheck.py"]
ENTRYPOINT ["sms-foundation"]
CMD ["serve"]
