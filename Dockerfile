# Images of the service: `cpu` and `gpu` serve, `training` trains and exports. Built by BuildKit:
#
#   docker build --target cpu --tag liver-tumor-segmentation:cpu .
#
# Behind a proxy that signs TLS anew, pass its authorities; they stay out of the image:
#
#   docker build --secret id=ca,src=/etc/ssl/certs/ca-certificates.crt --target cpu ...

# A mirror's name, or a digest, may take its place.
ARG BASE=debian:bookworm-slim

FROM ${BASE} AS debian
# Versions are Debian stable's own, so that a new build has its security updates.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get upgrade --yes \
    && apt-get install --yes --no-install-recommends ca-certificates libpython3.11-stdlib python3.11 \
    && find /usr/share/doc -type f ! -name copyright -delete \
    && rm -rf /usr/share/info /usr/share/locale /usr/share/man /var/cache/* /var/lib/apt/lists/* /var/log/* \
    && groupadd --gid 10001 lts \
    && useradd --uid 10001 --gid 10001 --home-dir /data --no-create-home --shell /usr/sbin/nologin lts \
    && install --directory --mode=0700 --owner=lts --group=lts /data

# One layer, so that what was deleted is nowhere in the image.
FROM scratch AS base
# hadolint ignore=DL3067
COPY --from=debian / /


# An environment with exactly what is locked, by hash, and without pip.
FROM base AS build
ARG PIP_INDEX_URL
# hadolint ignore=DL3008,DL3009
RUN apt-get update && apt-get install --yes --no-install-recommends binutils python3-pip
RUN python3.11 -m venv --without-pip /app/venv
WORKDIR /app
COPY deploy/image/install /build/

FROM build AS environment-cpu
COPY requirements/cpu.txt /build/requirements.txt
RUN --mount=type=secret,id=ca /build/install

FROM build AS environment-gpu
COPY requirements/gpu.txt /build/requirements.txt
RUN --mount=type=secret,id=ca /build/install

FROM build AS environment-training
COPY requirements/training.txt /build/requirements.txt
RUN --mount=type=secret,id=ca /build/install


# The service and its model, compiled: the root file system may be read-only.
FROM base AS code
WORKDIR /app
COPY LICENSE ./
COPY models models
COPY service service
RUN python3.11 -m compileall -q --invalidation-mode unchecked-hash service

# The GPU's float16 graph, made from the model.
FROM environment-gpu AS float16
COPY --from=code /app /app
COPY training training
COPY export export
ENV ORT_DISABLE_TELEMETRY=1
RUN /app/venv/bin/python -m export gpu models/liver-tumor.onnx

FROM code AS code-training
COPY training training
COPY export export
RUN python3.11 -m compileall -q --invalidation-mode unchecked-hash training export


FROM base AS run
COPY deploy/image/health.py deploy/image/sbom.py /app/
WORKDIR /app
ENV PATH=/app/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    ORT_DISABLE_TELEMETRY=1
VOLUME /data
LABEL org.opencontainers.image.title="Liver tumour segmentation" \
      org.opencontainers.image.description="Finds the liver and its tumours on CT. Research use only, not a medical device." \
      org.opencontainers.image.licenses="Apache-2.0 AND LicenseRef-Model-Weights" \
      org.opencontainers.image.base.name="debian:bookworm-slim"

FROM run AS serve
ENV LTS_HOST=0.0.0.0 \
    LTS_DATA_DIR=/data
EXPOSE 8000 11112
HEALTHCHECK --interval=5s --timeout=4s --start-period=60s --retries=3 \
    CMD ["python", "-I", "-S", "/app/health.py"]
ENTRYPOINT ["python", "-m", "service"]
CMD ["serve"]

FROM run AS training
COPY --from=environment-training /app/venv venv
COPY --from=code-training /app ./
RUN python sbom.py > sbom.cdx.json
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.version=${VERSION} \
      org.opencontainers.image.revision=${REVISION}
ENV MPLCONFIGDIR=/tmp/matplotlib \
    KERAS_HOME=/tmp/keras
USER 10001:10001
ENTRYPOINT ["python", "-m"]
CMD ["training", "--help"]

FROM serve AS gpu
COPY --from=environment-gpu /app/venv venv
COPY --from=code /app ./
COPY --from=float16 /app/models/liver-tumor.gpu.onnx models/
RUN python sbom.py > sbom.cdx.json
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.version=${VERSION} \
      org.opencontainers.image.revision=${REVISION}
USER 10001:10001

# The last stage is what a build without a target makes.
FROM serve AS cpu
COPY --from=environment-cpu /app/venv venv
COPY --from=code /app ./
RUN python sbom.py > sbom.cdx.json
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.version=${VERSION} \
      org.opencontainers.image.revision=${REVISION}
USER 10001:10001
