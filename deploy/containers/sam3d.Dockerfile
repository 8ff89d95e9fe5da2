# Image of the worker for SAM 3D Objects and SAM 3D Body, from the root of the repository:
#
#   docker build -f deploy/containers/sam3d.Dockerfile --build-context upstream=FOLDER \
#       -t maskwire-worker-sam3d .
#
# It was never built: Meta's packages are not in the package index, some of what they need is
# compiled against CUDA, and their weights are for those who accepted the licence. FOLDER is yours,
# made on a machine with CUDA 12.1 and Python 3.11 by upstream's own instructions (doc/setup.md of
# SAM 3D Objects, INSTALL.md of SAM 3D Body):
#
#   FOLDER/wheels/            wheels of all that they install, their own package sam3d_objects and
#                             torch 2.5.1 for CUDA 12.1 included, hydra-core with upstream's patch
#                             (`pip wheel --wheel-dir wheels ...`)
#   FOLDER/requirements.txt   what to install of them for inference
#   FOLDER/sam-3d-body/       a checkout of SAM 3D Body, which is no package; may be empty
#
# CUDA's libraries come with torch, the driver from the host. The weights are mounted: see
# MASKWIRE_RECONSTRUCTION__* below. Afterwards run `maskwire doctor all` in it, on a GPU with 32 GB.
ARG PYTHON_IMAGE=python:3.11.14-slim-bookworm

FROM ${PYTHON_IMAGE} AS builder
ENV UV_COMPILE_BYTECODE=1 \
    UV_LINK_MODE=copy \
    UV_PYTHON_DOWNLOADS=never \
    SAM2_BUILD_CUDA=0
WORKDIR /build
COPY constraints.txt pyproject.toml ./
COPY deploy/containers/sam3d/overrides.txt overrides.txt
RUN python -m pip install --no-cache-dir --disable-pip-version-check --constraint constraints.txt uv \
    && python -m venv --without-pip /opt/maskwire
# First all of upstream's, from its wheels alone.
RUN --mount=type=bind,from=upstream,source=/,target=/upstream \
    uv pip install --python /opt/maskwire/bin/python --no-index --find-links /upstream/wheels \
        --requirements /upstream/requirements.txt setuptools
# What upstream has pinned, and what its torch brings, must not be pinned to anything else.
RUN --mount=type=cache,target=/root/.cache/uv \
    sed -E -i '/^(cuda-|nvidia-|triton|torch|numpy|scipy|scikit-image|hydra-core|opencv|setuptools)/d' \
        constraints.txt \
    && uv pip install --python /opt/maskwire/bin/python --constraint constraints.txt \
        --override overrides.txt --no-build-isolation-package sam2 \
        --requirements pyproject.toml --extra server --extra nats --extra tracing
COPY LICENSE README.md ./
COPY proto/gen proto/gen
COPY clients clients
COPY service/maskwire_server service/maskwire_server
RUN --mount=type=cache,target=/root/.cache/uv \
    uv pip install --python /opt/maskwire/bin/python --no-deps .

FROM ${PYTHON_IMAGE} AS worker
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Maskwire worker for SAM 3D" \
      org.opencontainers.image.description="Jobs of SAM 3D Objects and SAM 3D Body" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# What wheels of opencv-python, open3d and bpy expect of a system, though nothing is displayed.
# Debian serves only the newest version of a package: a pin would break the build at the next fix.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libegl1 libgl1 libglib2.0-0 libgomp1 libice6 libsm6 \
        libxfixes3 libxi6 libxkbcommon0 libxrender1 libxxf86vm1 \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 65532 maskwire \
    && useradd --uid 65532 --gid maskwire --home-dir /var/lib/maskwire --no-create-home \
        --shell /usr/sbin/nologin maskwire \
    && install --directory --owner=maskwire --group=maskwire --mode=0750 \
        /var/lib/maskwire /var/cache/maskwire
COPY --from=builder /opt/maskwire /opt/maskwire
# `upstream` is no stage but the build context that the builder names.
# hadolint ignore=DL3022
COPY --from=upstream sam-3d-body /opt/sam-3d-body
# The engines read the three paths; a folder of weights may be mounted read-only.
ENV PATH=/opt/maskwire/bin:$PATH \
    PYTHONPATH=/opt/sam-3d-body \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/var/lib/maskwire \
    HF_HOME=/var/cache/maskwire/huggingface \
    HF_HUB_OFFLINE=1 \
    XDG_CACHE_HOME=/var/cache/maskwire/home \
    TORCH_HOME=/var/cache/maskwire/torch \
    TORCHINDUCTOR_CACHE_DIR=/tmp/torchinductor \
    TRITON_CACHE_DIR=/tmp/triton \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    MASKWIRE_GRPC__HOST=0.0.0.0 \
    MASKWIRE_METRICS__HOST=0.0.0.0 \
    MASKWIRE_MODELS__CACHE_FOLDER=/var/cache/maskwire \
    MASKWIRE_STORAGE__FOLDER=/var/lib/maskwire/files \
    MASKWIRE_JOBS__DATABASE=/var/lib/maskwire/jobs.sqlite \
    MASKWIRE_JOBS__HEALTH_PORT=50052 \
    MASKWIRE_LOGGING__FORMAT=json \
    MASKWIRE_RECONSTRUCTION__SAM3D_OBJECTS_CONFIG=/var/cache/maskwire/sam3d-objects/pipeline.yaml \
    MASKWIRE_RECONSTRUCTION__SAM3D_BODY_CHECKPOINT=/var/cache/maskwire/sam3d-body/model.ckpt \
    MASKWIRE_RECONSTRUCTION__SAM3D_BODY_RIG=/var/cache/maskwire/sam3d-body/mhr_model.pt
WORKDIR /var/lib/maskwire
USER 65532:65532
VOLUME ["/var/lib/maskwire", "/var/cache/maskwire"]
EXPOSE 50052 9464
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --start-interval=5s --retries=3 \
    CMD ["maskwire", "health", "--server", "127.0.0.1:50052", "--timeout", "5"]
ENTRYPOINT ["maskwire"]
CMD ["worker", "--queue", "sam3d-objects", "--queue", "sam3d-body", "--count", "1"]
