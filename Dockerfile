# syntax=docker/dockerfile:1

# One image for all commands: `serve` (the default), `worker`, `migrate` and the rest of `sms-foundation --help`.
# It runs as nobody in particular, writes nothing but /tmp, and holds no compiler, no pip of its own and no database.
ARG PYTHON_VERSION=3.13
ARG DEBIAN_RELEASE=trixie


# Everything that is needed to install stays in this stage.
FROM python:${PYTHON_VERSION}-${DEBIAN_RELEASE} AS build
WORKDIR /build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ONLY_BINARY=:all: PIP_ROOT_USER_ACTION=ignore
RUN python -m venv --without-pip /opt/sms-foundation

# Dependencies first: this layer is made again only when the lock changes. The lock of the developers' tools pins
# everything, so it also says which redis client (an extra) and which build backend are meant.
COPY requirements.txt requirements-dev.txt ./
RUN pip --python /opt/sms-foundation/bin/python install --no-compile \
        -r requirements.txt -c requirements-dev.txt redis \
    && pip install -c requirements-dev.txt hatchling

COPY pyproject.toml README.md ./
COPY src src
RUN pip wheel --no-deps --no-build-isolation --wheel-dir wheels . \
    && pip --python /opt/sms-foundation/bin/python install --no-compile --no-deps wheels/*.whl

# Two thirds of what the wheels bring is never read: debug symbols, C sources, and where in the world a number lies.
COPY infrastructure/container/slim.sh infrastructure/container/compile_what_is_loaded.py ./
RUN sh slim.sh /opt/sms-foundation && /opt/sms-foundation/bin/python compile_what_is_loaded.py


FROM python:${PYTHON_VERSION}-slim-${DEBIAN_RELEASE} AS runtime
RUN useradd --system --uid 10001 --user-group --no-create-home --home-dir /tmp --shell /usr/sbin/nologin sms
COPY --from=build /opt/sms-foundation /opt/sms-foundation
COPY --chmod=0444 infrastructure/container/healthcheck.py /opt/sms-foundation/healthcheck.py

# Cloud Run gives another PORT and means it; everything else about where and how comes from the environment as well.
ENV PATH=/opt/sms-foundation/bin:$PATH \
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
ARG PYTHON_VERSION
ARG DEBIAN_RELEASE
LABEL org.opencontainers.image.title="SMS Foundation" \
      org.opencontainers.image.description="One service through which an organisation's every text message comes in and goes out" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.base.name="docker.io/library/python:${PYTHON_VERSION}-slim-${DEBIAN_RELEASE}"

# By number, so that Kubernetes can see that it is not root.
USER 10001:10001
WORKDIR /opt/sms-foundation
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "-I", "/opt/sms-foundation/healthcheck.py"]
ENTRYPOINT ["sms-foundation"]
CMD ["serve"]
