# One image for the worker, the migration job and the command line.
#
# TORCH_INDEX names the index of wheels that torch is installed from: PyTorch's index of CPU
# builds makes the image a fifth of the size. Empty means pip's own, which serves CUDA on Linux.
FROM python:3.11-slim-bookworm AS build
ARG TORCH_INDEX=""
# What runs the network on processors; empty for an image that will have a GPU.
ARG EXTRAS=cpu
WORKDIR /app
RUN python -m venv /venv
ENV PATH=/venv/bin:$PATH PIP_NO_CACHE_DIR=1
COPY constraints.txt ./
# First and alone, because it is large and seldom changes.
RUN pip install -c constraints.txt torch ${TORCH_INDEX:+--index-url "$TORCH_INDEX"}
COPY pyproject.toml README.md ./
COPY model model
COPY storage storage
COPY worker worker
COPY migrations migrations
RUN pip install -c constraints.txt ".${EXTRAS:+[$EXTRAS]}"

FROM python:3.11-slim-bookworm
RUN useradd --system --uid 10001 --create-home sigctl
COPY --from=build /venv /venv
COPY --chown=sigctl checkpoints /app/checkpoints
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1
WORKDIR /app
USER sigctl
ENTRYPOINT ["sigctl"]
CMD ["--help"]
