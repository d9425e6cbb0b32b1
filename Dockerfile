# syntax=docker/dockerfile:1
# driftd in a container: docker build -t driftd .
#   --build-arg EXTRAS=              without the embedding model: a smaller image, and a quarter of the memory
#   --build-arg TORCH_INDEX=URL      where torch comes from: a mirror, or an index with CUDA

FROM python:3.11-slim-bookworm AS dependencies
ARG EXTRAS=bundled-model
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
# By itself and first: the largest layer, which seldom changes. What comes next finds torch there, and so takes no CUDA.
RUN python -m venv --without-pip /opt/driftd \
    && pip --python /opt/driftd/bin/python install --index-url "$TORCH_INDEX" "torch>=2.6,<2.14"
WORKDIR /source
COPY LICENSE README.md pyproject.toml ./
COPY monitor/__init__.py monitor/
# hadolint ignore=DL3013
RUN pip --python /opt/driftd/bin/python install ".${EXTRAS:+[$EXTRAS]}" \
    && pip --python /opt/driftd/bin/python uninstall --yes driftd

FROM dependencies AS build
COPY monitor monitor
RUN pip wheel --no-deps --wheel-dir /wheels .

FROM python:3.11-slim-bookworm
LABEL org.opencontainers.image.title="driftd" \
      org.opencontainers.image.description="Says within a false-alarm budget when what a language model is asked or answers has changed" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --gid 10001 driftd \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/driftd --shell /usr/sbin/nologin driftd \
    && install --directory --owner=10001 --group=10001 --mode=0700 /var/lib/driftd
COPY --from=dependencies /opt/driftd /opt/driftd
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    pip --python /opt/driftd/bin/python install --no-cache-dir --no-index --no-deps /wheels/*.whl

# Nothing is written but to the store's volume and to /tmp: the rest may be mounted read-only. Numeric libraries use one
# thread each, or they would start one for each core of the host, whatever the container may use of them.
ENV PATH=/opt/driftd/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    OPENBLAS_NUM_THREADS=1 \
    HF_HOME=/var/lib/driftd/models
WORKDIR /var/lib/driftd
VOLUME /var/lib/driftd
USER 10001:10001
EXPOSE 9464
# The first signal drains within 25 s: give it 30 before the kill (docker stop --time 30).
STOPSIGNAL SIGTERM
# Of the port that config/compose.yaml and config/kubernetes configure. No proxy is asked, whatever the environment says.
HEALTHCHECK --interval=30s --timeout=5s --start-period=2m --retries=3 \
    CMD ["python", "-c", "import http.client as h, sys; c = h.HTTPConnection('127.0.0.1', 9464, timeout=4); c.request('GET', '/healthz'); sys.exit(c.getresponse().status != 200)"]
ENTRYPOINT ["driftd"]
CMD ["run", "-c", "/etc/driftd/driftd.yaml"]
