# The controller's image. `docker build -t REGISTRY/leadtime:0.1.0 .`
# Pin the base by digest where you build it: --build-arg PYTHON_IMAGE=python@sha256:...
ARG PYTHON_IMAGE=python:3.11.14-slim-trixie

FROM ${PYTHON_IMAGE} AS build
WORKDIR /src
COPY pyproject.toml requirements-image.lock requirements-build.lock README.md LICENSE ./
COPY autoscaler/ autoscaler/
COPY policies/ policies/
COPY simulator/ simulator/
COPY leadtime_serve_policy.py ./
# What comes from an index comes by its hash (`make lock` writes both files); what is ours is built without one.
RUN python -m venv /opt/leadtime \
    && python -m venv /opt/build \
    && /opt/leadtime/bin/pip install --no-cache-dir --disable-pip-version-check \
       --require-hashes --only-binary :all: --requirement requirements-image.lock \
    && /opt/build/bin/pip install --no-cache-dir --disable-pip-version-check \
       --require-hashes --only-binary :all: --requirement requirements-build.lock \
    && /opt/build/bin/pip wheel --no-cache-dir --no-deps --no-index --no-build-isolation --wheel-dir /opt/wheels . \
    && /opt/leadtime/bin/pip install --no-cache-dir --no-deps --no-index /opt/wheels/*.whl \
    && /opt/leadtime/bin/pip uninstall --yes pip setuptools

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="leadtime" \
      org.opencontainers.image.description="Autoscaling for LLM serving on Ray Serve" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/leadtime /opt/leadtime
# The root file system is read-only in the chart's pod: nothing is compiled or cached at run time.
ENV PATH=/opt/leadtime/bin:/usr/bin:/bin \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp
WORKDIR /var/lib/leadtime
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["leadtime"]
CMD ["--help"]
