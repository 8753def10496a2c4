"""The student's network as a TFLite file, from a checkpoint of fewstep (docs/architecture.md): written operator by operator,
as converters need TensorFlow or an older PyTorch. Pictures are [N, height, width, channels], one channel.

GroupNorm is sums over cells, then a matrix that averages the channels of each group: operators for which XNNPACK has
kernels.
"""

import json
import math

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from safetensors import safe_open

GROUP = 8
EPS = 1e-5
SIGNATURE, INPUTS = "step", ("z", "class", "w")
SAME = schema.Padding.SAME
TYPES = {np.dtype(np.float32): schema.TensorType.FLOAT32, np.dtype(np.int32): schema.TensorType.INT32}


def named(name, index):
    entry = schema.TensorMapT()
    entry.name, entry.tensorIndex = name, index
    return entry


class Graph:
    """A model under construction; values are indices of tensors."""

    def __init__(self):
        self.sub = schema.SubGraphT()
        self.sub.tensors, self.sub.operators, self.sub.inputs, self.sub.outputs = [], [], [], []
        self.buffers, self.codes = [schema.BufferT()], []

    def tensor(self, shape, kind=np.float32, buffer=0):
        t = schema.TensorT()
        t.shape, t.type, t.buffer = list(shape), TYPES[np.dtype(kind)], buffer
        t.name = f"t{len(self.sub.tensors)}"
        self.sub.tensors.append(t)
        return len(self.sub.tensors) - 1

    def shape(self, value):
        return self.sub.tensors[value].shape

    def constant(self, array):
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)
        self.buffers.append(buffer)
        return self.tensor(array.shape, array.dtype, len(self.buffers) - 1)

    def op(self, name, inputs, shape, **options):
        code = getattr(schema.BuiltinOperator, name)
        if code not in self.codes:
            self.codes.append(code)
        o = schema.OperatorT()
        o.opcodeIndex, o.inputs, o.outputs = self.codes.index(code), list(inputs), [self.tensor(shape)]
        known = {"MUL": "Mul", "ADD": "Add", "SUB": "Sub", "CONV_2D": "Conv2D", "FULLY_CONNECTED": "FullyConnected"}
        known |= {"CONCATENATION": "Concatenation", "GATHER": "Gather", "MEAN": "Reducer", "RESHAPE": "Reshape"}
        known |= {"AVERAGE_POOL_2D": "Pool2D", "SOFTMAX": "Softmax", "BATCH_MATMUL": "BatchMatMul"}
        known |= {"SPACE_TO_DEPTH": "SpaceToDepth", "DEPTH_TO_SPACE": "DepthToSpace", "TRANSPOSE": "Transpose"}
        if name in known:
            kind = known[name] + "Options"
            o.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
            o.builtinOptions = getattr(schema, kind + "T")()
            for key, value in options.items():
                setattr(o.builtinOptions, key, value)
        self.sub.operators.append(o)
        return o.outputs[0]

    def two(self, name, a, b):
        return self.op(name, (a, b), np.broadcast_shapes(self.shape(a), self.shape(b)))

    def by(self, name, a, number):
        return self.two(name, a, self.constant(np.float32(number).reshape([1] * len(self.shape(a)))))

    def reshape(self, x, shape):
        return self.op("RESHAPE", (x, self.constant(np.array(shape, np.int32))), shape, newShape=list(shape))

    def transpose(self, x, order):
        shape = [self.shape(x)[i] for i in order]
        return self.op("TRANSPOSE", (x, self.constant(np.array(order, np.int32))), shape)

    def silu(self, x):
        return self.two("MUL", x, self.op("LOGISTIC", (x,), self.shape(x)))

    def dense(self, x, weights, bias=None):
        inputs = (x, self.constant(weights), -1 if bias is None else self.constant(bias))
        return self.op("FULLY_CONNECTED", inputs, (*self.shape(x)[:-1], len(weights)), keepNumDims=True)

    def conv(self, x, weights, bias):
        shape = (*self.shape(x)[:3], len(weights))
        inputs = (x, self.constant(weights), self.constant(bias))
        return self.op("CONV_2D", inputs, shape, padding=SAME, strideH=1, strideW=1)

    def norm(self, x, gamma, beta, film=None):
        n, _, _, c = self.shape(x)
        average = np.kron(np.eye(c // GROUP), np.full((GROUP, GROUP), 1 / GROUP)).astype(np.float32)
        axes = self.constant(np.array([1, 2], np.int32))
        mean_of = lambda y: self.dense(self.op("MEAN", (y, axes), (n, 1, 1, c), keepDims=True), average)
        mean, squares = mean_of(x), mean_of(self.two("MUL", x, x))
        variance = self.two("SUB", squares, self.two("MUL", mean, mean))
        factor = self.op("RSQRT", (self.by("ADD", variance, EPS),), (n, 1, 1, c))
        factor = self.two("MUL", factor, self.constant(gamma.reshape(1, 1, 1, c)))
        offset = self.two("SUB", self.constant(beta.reshape(1, 1, 1, c)), self.two("MUL", mean, factor))
        if film:
            scale, shift = film
            factor = self.two("MUL", factor, scale)
            offset = self.two("ADD", self.two("MUL", offset, scale), shift)
        return self.two("ADD", self.two("MUL", x, factor), offset)

    def double(self, x):
        n, h, w, c = self.shape(x)
        four = self.op("CONCATENATION", (x,) * 4, (n, h, w, 4 * c), axis=3)
        return self.op("DEPTH_TO_SPACE", (four,), (n, 2 * h, 2 * w, c), blockSize=2)

    def pack(self):
        model = schema.ModelT()
        model.version, model.subgraphs, model.buffers, model.operatorCodes = 3, [self.sub], self.buffers, []
        for code in self.codes:
            c = schema.OperatorCodeT()
            c.builtinCode, c.deprecatedBuiltinCode, c.version = code, min(code, 127), 1
            model.operatorCodes.append(c)
        # What the quantizer calls it by.
        signature = schema.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = SIGNATURE, 0
        signature.inputs = [named(name, index) for name, index in zip(INPUTS, self.sub.inputs)]
        signature.outputs = [named("next", index) for index in self.sub.outputs]
        model.signatureDefs = [signature]
        builder = flatbuffers.Builder(1 << 22)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


def student(path, step, steps, batch):
    """The file of next = f(z, class, w) at one step of a student of `steps` steps."""
    with safe_open(path, "np") as file:
        arch = json.loads(file.metadata()["fewstep"])["arch"]
        weights = {k: file.get_tensor(k).astype(np.float32) for k in file.keys()}
    g = Graph()
    height, width, patch, heads = arch["height"], arch["width"], arch["patch"], arch["attention_heads"]
    z = g.tensor((batch, height, width, 1))
    label, w = g.tensor((batch,), np.int32), g.tensor((batch, 1))
    g.sub.inputs = [z, label, w]
    conv = lambda x, name: g.conv(x, weights[f"{name}.weight"], weights[f"{name}.bias"])
    norm = lambda x, name, film=None: g.norm(x, weights[f"{name}.scale"], weights[f"{name}.shift"], film)

    phi, turn = math.pi / 2 * (1 - step / steps), math.pi / 2 / steps
    k = np.arange(1, 9) * phi
    time = weights["embed.time.weight"] @ np.concatenate([np.sin(k), np.cos(k)]) + weights["embed.time.bias"]
    classes = (weights["embed.class"] + time).astype(np.float32)
    embed = classes.shape[1]
    angles = g.two("MUL", w, g.constant((np.arange(1, 5, dtype=np.float32) * np.float32(math.pi / 8)).reshape(1, 4)))
    waves = [g.op(name, (angles,), (batch, 4)) for name in ("SIN", "COS")]
    features = g.op("CONCATENATION", waves, (batch, 8), axis=1)
    e = g.op("GATHER", (g.constant(classes), label), (batch, embed), axis=0)
    e = g.silu(g.two("ADD", e, g.dense(features, weights["embed.guidance"])))
    e = g.silu(g.dense(e, weights["embed.hidden.weight"], weights["embed.hidden.bias"]))
    film, bias = weights["embed.film.weight"], weights["embed.film.bias"]
    e, rows = g.reshape(e, (batch, 1, 1, embed)), 0

    def block(x, name, channels):
        nonlocal rows
        part = lambda i: slice(rows + i * channels, rows + (i + 1) * channels)
        scale, shift = g.dense(e, film[part(0)], bias[part(0)] + 1), g.dense(e, film[part(1)], bias[part(1)])
        rows += 2 * channels
        y = conv(g.silu(norm(x, f"{name}.norm1")), f"{name}.conv1")
        return g.two("ADD", x, conv(g.silu(norm(y, f"{name}.norm2", (scale, shift))), f"{name}.conv2"))

    def attention(x):
        n, h, wide, c = g.shape(x)
        normed = norm(x, "attn.norm")
        kernel, offset, tokens, size = weights["attn.qkv.weight"], weights["attn.qkv.bias"], h * wide, c // heads
        part = lambda i: g.conv(normed, kernel[i * c : (i + 1) * c], offset[i * c : (i + 1) * c])
        q, key, v = (g.transpose(g.reshape(part(i), (n, tokens, heads, size)), (0, 2, 1, 3)) for i in range(3))
        scores = g.op("BATCH_MATMUL", (q, key), (n, heads, tokens, tokens), adjY=True)
        scores = g.by("MUL", scores, size**-0.5)
        shares = g.op("SOFTMAX", (scores,), g.shape(scores), beta=1.0)
        mixed = g.op("BATCH_MATMUL", (shares, v), (n, heads, tokens, size))
        mixed = g.reshape(g.transpose(mixed, (0, 2, 1, 3)), (n, h, wide, c))
        return g.two("ADD", x, conv(mixed, "attn.proj"))

    x = g.op("SPACE_TO_DEPTH", (z,), (batch, height // patch, width // patch, patch**2), blockSize=patch)
    x = conv(x, "conv_in")
    widths, streams, lowest = arch["widths"], [], len(arch["widths"]) - 1
    for level in range(lowest):
        for i in range(arch["encoder"][level]):
            x = block(x, f"enc.{level}.{i}", widths[level])
        streams.append(x)
        n, h, wide, c = g.shape(x)
        two = dict(filterHeight=2, filterWidth=2, strideH=2, strideW=2, padding=schema.Padding.VALID)
        x = conv(g.op("AVERAGE_POOL_2D", (x,), (n, h // 2, wide // 2, c), **two), f"down.{level}")
    for i in range(arch["middle"]):
        x = block(x, f"mid.{i}", widths[lowest])
        if heads and i + 1 == math.ceil(arch["middle"] / 2):
            x = attention(x)
    for level in reversed(range(lowest)):
        x = g.two("ADD", streams.pop(), g.double(conv(x, f"up.{level}")))
        for i in range(arch["decoder"][level]):
            x = block(x, f"dec.{level}.{i}", widths[level])
    v = conv(g.silu(norm(x, "norm_out")), "conv_out")
    v = g.op("DEPTH_TO_SPACE", (v,), (batch, height, width, 1), blockSize=patch)
    g.sub.outputs = [g.two("SUB", g.by("MUL", z, math.cos(turn)), g.by("MUL", v, math.sin(turn)))]
    return g.pack()


def quantized(content, calibration):
    """The same with convolutions in int8 by LiteRT's own quantizer: static ranges from `calibration`, a list of inputs by
    name; or ranges at run time (dynamic), where that is None."""
    from ai_edge_quantizer import quantizer, recipe
    from ai_edge_quantizer.recipe import TFLOperationName

    rules = recipe.static_wi8_ai8() if calibration else recipe.dynamic_wi8_afp32()
    for rule in rules:
        rule["operation"] = TFLOperationName.CONV_2D
    q = quantizer.Quantizer(content, rules)
    ranges = q.calibrate({SIGNATURE: calibration}) if calibration else None
    return bytes(q.quantize(ranges).quantized_model)
