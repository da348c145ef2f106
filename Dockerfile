# One image for the worker, the migration job and the command line.
#
# Every wheel must have the hash that the locks name (`make lock` writes them). TORCH_INDEX names
# another index to install torch from: PyTorch's index of CPU builds makes the image a fifth of the
# size. Its builds are other files than the locked ones, so there the version alone is fixed.
FROM python:3.11-slim-bookworm AS build
ARG TORCH_INDEX=""
WORKDIR /app
RUN python -m venv /venv
ENV PATH=/venv/bin:$PATH PIP_NO_CACHE_DIR=1
COPY requirements.lock requirements-torch.lock ./
# First and alone, because it is large and seldom changes.
RUN if [ -z "$TORCH_INDEX" ]; then \
      pip install --no-deps --require-hashes -r requirements-torch.lock; \
    else \
      pip install --no-deps --index-url "$TORCH_INDEX" \
        $(grep -oE '^torch(vision)?==[0-9.]+' requirements-torch.lock); \
    fi
RUN pip install --no-deps --require-hashes -r requirements.lock
COPY pyproject.toml README.md ./
COPY model model
COPY storage storage
COPY worker worker
COPY migrations migrations
# With the locked setuptools: a build of its own would fetch another, unhashed.
RUN pip install --no-deps --no-build-isolation .

FROM python:3.11-slim-bookworm
RUN useradd --system --uid 10001 --create-home sigctl
COPY --from=build /venv /venv
COPY --chown=sigctl checkpoints /app/checkpoints
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1
WORKDIR /app
USER sigctl
ENTRYPOINT ["sigctl"]
CMD ["--help"]
