# The same lock as `make install`, as a container: `docker build -t ldct .`
# For NVIDIA GPUs: `docker build --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130 .`
FROM node:20-slim AS page
WORKDIR /review/page
COPY pipeline/review/page ./
RUN npm ci --ignore-scripts --no-audit --no-fund && npm run build

FROM python:3.11-slim

ARG TORCH_INDEX=cpu

# Volumes take their owner from these folders: the user that the programs run as.
RUN useradd --create-home --uid 1000 ldct \
    && install --directory --owner ldct --group ldct --mode 700 \
        /home/ldct/.config /home/ldct/.config/ldct /home/ldct/.prefect /home/ldct/artifacts /var/lib/ldct
WORKDIR /opt/ldct
COPY requirements.lock ./
RUN pip install --no-cache-dir --no-deps --require-hashes \
        --extra-index-url https://download.pytorch.org/whl/cpu --requirement requirements.lock
# CUDA's build, if asked for, is its index's word: the lock has the hashes of builds for CPUs alone.
RUN test "$TORCH_INDEX" = cpu \
    || (pip uninstall --yes torch && pip install --no-cache-dir --index-url "$TORCH_INDEX" torch==2.13.0)
COPY pyproject.toml setup.py README.md LICENSE ./
COPY pipeline pipeline
COPY --from=page /review/built pipeline/review/built
COPY flows flows
COPY ldct ldct
COPY configs configs
COPY pretrained pretrained
RUN pip install --no-cache-dir --no-deps --no-build-isolation .
COPY --chmod=755 containers/with-secrets containers/healthy /usr/local/bin/

USER ldct
WORKDIR /home/ldct
ENV PREFECT_SERVER_ANALYTICS_ENABLED=false
ENTRYPOINT ["ldct"]
CMD ["--help"]
