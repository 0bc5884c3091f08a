# The same lock as `make install`, as a container: `docker build -t ldct .`
# For NVIDIA GPUs: `docker build --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130 .`
FROM node:20-slim AS page
WORKDIR /review/page
COPY pipeline/review/page ./
RUN npm ci --ignore-scripts --no-audit --no-fund && npm run build

FROM python:3.11-slim

ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

RUN useradd --create-home ldct
WORKDIR /opt/ldct
COPY requirements.lock pyproject.toml README.md LICENSE ./
RUN pip install --no-cache-dir --extra-index-url "$TORCH_INDEX" --requirement requirements.lock
COPY pipeline pipeline
COPY --from=page /review/built pipeline/review/built
COPY flows flows
COPY configs configs
RUN pip install --no-cache-dir --no-deps --no-build-isolation .

USER ldct
WORKDIR /home/ldct
ENV PREFECT_SERVER_ANALYTICS_ENABLED=false
ENTRYPOINT ["ldct"]
CMD ["--help"]
