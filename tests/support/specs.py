"""Hypothesis strategies for ModelServers: mostly right, and wrong in one place or another."""

from hypothesis import strategies as st

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def optional(**fields):
    """A map with any of these fields."""
    return st.fixed_dictionaries({}, optional=fields)


NAMES = st.sampled_from(["a", "chat", "hub-token", "x" * 63, "a.b", "x" * 253])
BAD_NAMES = st.sampled_from(["", "A", "-a", "a b", "x" * 254])
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=12)
NAMES_OR_NOT = NAMES | BAD_NAMES

GOOD_PLACES = ["hf://org/model", "pvc://models", "pvc://models/a/b", "file:///opt/m"]
MODELS = st.fixed_dictionaries(
    {
        "uri": st.sampled_from(
            [
                *GOOD_PLACES,
                "hf://a",
                "s3://b/c",
                "",
                "pvc://m/..",
                "hf://a/b/c",
                "file://x",
                "hf://a/b c",
            ]
        )
    },
    optional={
        "revision": st.sampled_from(["", "main", "v1.0", "a/b", COMMIT, "0123", " ", "x" * 129]),
        "task": st.sampled_from(["Auto", "TextGeneration", "Embeddings", "text-generation"]),
        "servedName": st.sampled_from(["", "gpt", "a/b:c", " x", "x" * 129]),
        "aliases": st.lists(st.sampled_from(["a", "b", "c/d", ""]), max_size=3),
        "credentials": st.fixed_dictionaries(
            {"secretRef": st.fixed_dictionaries({"name": NAMES_OR_NOT}, optional={"key": NAMES})}
        ),
        "allowPickle": st.booleans(),
        "trustRemoteCode": st.booleans(),
    },
)

EXTRA_MODELS = st.lists(
    st.fixed_dictionaries(
        {
            "name": st.sampled_from(["more", "other", "a", "", "org/a", "x" * 40, "x" * 41]),
            "uri": st.sampled_from([*GOOD_PLACES, "hf://a", "pvc://m/..", ""]),
        },
        optional={
            "revision": st.sampled_from(["", "main", COMMIT, COMMIT, "0123"]),
            "aliases": st.lists(st.sampled_from(["a", "more", "x/y", "gpt"]), max_size=2),
            "task": st.sampled_from(["Auto", "Embeddings", "embeddings"]),
            "dtype": st.sampled_from(["Auto", "Float32", "fp32"]),
            "credentials": st.fixed_dictionaries(
                {"secretRef": st.fixed_dictionaries({"name": NAMES_OR_NOT})}
            ),
        },
    ),
    max_size=3,
)
ACCESS = optional(
    apiKeys=st.fixed_dictionaries(
        {"secretRef": st.fixed_dictionaries({"name": NAMES_OR_NOT}, optional={"key": NAMES})}
    )
    | st.fixed_dictionaries({"secretRef": st.fixed_dictionaries({"name": NAMES})}),
    rateLimit=optional(
        requestsPerMinute=st.sampled_from([-1, 0, 60, 100_000_000, 100_000_001]),
        tokensPerMinute=st.sampled_from([-1, 0, 2_000_000_000, 2_000_000_001]),
    ),
)

REFERENCES = st.fixed_dictionaries({"name": NAMES_OR_NOT, "key": NAMES})
VARIABLES = st.fixed_dictionaries(
    {"name": st.sampled_from(["A", "B", "my.var", "_x", "1a", "MODELSERVER_X", "", "A B"])},
    optional={
        "value": TEXTS,
        "valueFrom": optional(secretKeyRef=REFERENCES, configMapKeyRef=REFERENCES),
    },
)
REDIS = optional(
    url=st.sampled_from(
        ["", "redis://r", "rediss://r:6379/0", "redis://u:p@r:6379", "http://r", "redis://", "x"]
    ),
    secretRef=st.fixed_dictionaries({"name": NAMES_OR_NOT}, optional={"key": NAMES}),
)
RUNTIMES = optional(
    batching=optional(
        maxBatchSize=st.sampled_from([0, 1, 32, 33]),
        maxBatchTokens=st.sampled_from([15, 16, 1_000_000, 1_000_001]),
        maxWaitMilliseconds=st.sampled_from([-1, 0, 100, 101]),
        speculativeTokens=st.sampled_from([-1, 0, 15, 16]),
    ),
    queue=optional(
        maxSize=st.sampled_from([-1, 0, 100_000, 100_001]),
        timeoutSeconds=st.sampled_from([0, 1, 86_400, 86_401]),
        scope=st.sampled_from(["Model", "Server", "Global"]),
    ),
    responseCache=optional(
        enabled=st.booleans(),
        ttlSeconds=st.sampled_from([0, 1, 2_592_000, 2_592_001]),
        maxEntries=st.sampled_from([0, 1, 1_000_000, 1_000_001]),
    ),
    circuitBreaker=optional(
        failureThreshold=st.sampled_from([0, 1, 1000, 1001]),
        openSeconds=st.sampled_from([0, 1, 86_400, 86_401]),
    ),
    redis=REDIS,
    image=st.sampled_from(["", "image:1", "r.example/a/b@sha256:abc", "a b", "x" * 513]),
    dtype=st.sampled_from(["Auto", "Float16", "BFloat16", "bf16"]),
    maxModelLength=st.sampled_from([0, 1, 10_000_000, 10_000_001, -1]),
    requestTimeoutSeconds=st.sampled_from([1, 86_400, 0, 86_401]),
    drainSeconds=st.sampled_from([0, 3_600, -1, 3_601]),
    env=st.lists(VARIABLES, max_size=3),
    args=st.lists(TEXTS, max_size=3),
)

AMOUNTS = st.sampled_from(
    [0, 1, "1", "0.5", "500m", "8Gi", "1e3", ".5", "1E", -1, "", "8GB", "1.", "+1", "1e100", "-1"]
)
QUANTITIES = st.dictionaries(
    st.sampled_from(["cpu", "memory", "nvidia.com/gpu", "hugepages-2Mi", "ram"]),
    AMOUNTS,
    max_size=3,
)

LABELS = st.dictionaries(
    st.sampled_from(["team", "example.com/x", "a b", "modelserver.dev/x", "x" * 64, "/a", "-a"]),
    st.sampled_from(["", "a", "A-b_c.d", "x" * 63, "x" * 64, "a b", "-a"]),
    max_size=2,
)
GOOD_LABELS = st.dictionaries(st.sampled_from(["team", "app"]), st.just("a"), max_size=2)
SELECTORS = optional(matchLabels=GOOD_LABELS)
CIDRS = st.sampled_from(
    ["10.0.0.0/8", "2001:db8::/32", "10.0.0.1/32", "0.0.0.0/0", "10.0.0.1", "x", "", "10.0.0.0/33"]
)
BLOCKS = st.fixed_dictionaries({"cidr": CIDRS}, optional={"except": st.lists(CIDRS, max_size=2)})
PEERS = optional(namespaceSelector=SELECTORS, podSelector=SELECTORS, ipBlock=BLOCKS)
PORTS = st.fixed_dictionaries(
    {"port": st.sampled_from([1, 443, 65_535, 0, 65_536])},
    optional={"protocol": st.sampled_from(["TCP", "UDP", "SCTP", "tcp"])},
)
NETWORKS = optional(
    policy=st.sampled_from(["Restricted", "Open", "None", "Strict"]),
    ingressFrom=st.lists(PEERS, max_size=2),
    egressTo=st.lists(
        st.fixed_dictionaries({"to": PEERS}, optional={"ports": st.lists(PORTS, max_size=2)}),
        max_size=2,
    ),
)

JSON = st.recursive(
    st.booleans() | st.integers(-5, 5) | TEXTS,
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["a", "image", "env"]), inner, max_size=2)
    ),
    max_leaves=4,
)
PARTS = st.lists(
    st.dictionaries(st.sampled_from(["image", "tty"]), JSON, max_size=1).flatmap(
        lambda more: st.sampled_from(["server", "side", "Bad", ""]).map(
            lambda name: {"name": name, **more}
        )
    ),
    max_size=2,
)
TEMPLATES = optional(
    metadata=optional(labels=LABELS, annotations=LABELS),
    spec=optional(
        containers=PARTS,
        initContainers=PARTS,
        volumes=PARTS,
        nodeSelector=LABELS,
        tolerations=st.lists(optional(key=TEXTS), max_size=2),
        hostAliases=JSON,
    ),
)

VARIANTS = optional(
    model=optional(
        uri=st.sampled_from([*GOOD_PLACES, "hf://a", "", "pvc://m/.."]),
        revision=st.sampled_from([COMMIT, "main", ""]),
    ),
    runtime=optional(
        image=st.sampled_from(["registry.example/other:1", "", "a b"]),
        dtype=st.sampled_from(["Float16", "float16"]),
        maxModelLength=st.sampled_from([0, 2048, -1]),
        args=st.lists(st.sampled_from(["--a", "--b=c"]), max_size=2),
        env=st.lists(
            st.fixed_dictionaries(
                {"name": st.sampled_from(["A", "B", "MODELSERVER_X", "1"])},
                optional={"value": TEXTS},
            ),
            max_size=2,
        ),
    ),
    resources=optional(requests=QUANTITIES, limits=QUANTITIES),
)
MATCHES = optional(
    header=st.fixed_dictionaries({"name": st.just("x-track"), "value": TEXTS}),
    cookie=st.fixed_dictionaries({"name": st.sampled_from(["a", "a b"]), "value": st.just("b")}),
    userKeyPercent=st.sampled_from([1, 100, 0, 101]),
)
EXPERIMENTS = st.lists(
    st.fixed_dictionaries(
        {"name": st.sampled_from(["beta", "gamma", "Beta", ""]), "match": MATCHES},
        optional={
            "revision": st.sampled_from(["0a1b2c3d", "0a1b2c3", "main"]),
            "variant": VARIANTS,
            "replicas": st.sampled_from([1, 1000, 0]),
        },
    ),
    max_size=2,
)

SPECS = st.fixed_dictionaries(
    {"model": MODELS},
    optional={
        "engine": st.sampled_from(["Transformers", "Custom", "VLLM"]),
        "extraModels": EXTRA_MODELS,
        "runtime": RUNTIMES,
        "access": ACCESS,
        "resources": optional(requests=QUANTITIES, limits=QUANTITIES),
        "replicas": st.sampled_from([0, 1, 1000, 1001, -1]),
        "network": NETWORKS,
        "availability": optional(
            pdb=st.sampled_from(["Auto", "None", "Always"]),
            spread=st.sampled_from(["Zone", "Node", "None", "Rack"]),
            priorityClassName=st.just("") | NAMES_OR_NOT,
        ),
        "podTemplate": TEMPLATES,
        "traffic": optional(experiments=EXPERIMENTS),
        "suspend": st.booleans(),
    },
)

SERVER_NAMES = st.sampled_from(["a", "chat-small", "x" * 40, "x" * 41, "a.b", "7b"])
