"""What PyTorch computes of every unlearning method: each from its formula, in double precision.

A network is a vector of all its parameters, so that a Jacobian is a matrix and a linear system is
solved as one.
"""

import math

import numpy as np
import torch
from golden import request
from torch.autograd.functional import jacobian
from torch.nn import functional as F

KEEP, GO = torch.from_numpy(request.RETAINED), torch.from_numpy(request.FORGOTTEN)
ALL = torch.arange(request.COUNT)
LABELS = torch.from_numpy(request.LABELS).long()
WRONG = torch.from_numpy(request.WRONG).long()
ORIGINAL, FRESH = (
    torch.from_numpy(request.weights(name)).double() for name in ("original", "fresh")
)
SIZES = [math.prod(shape) for shape in request.SHAPES]


def seen(pixels, statistics=(request.MEAN, request.STD)):
    """What the network sees of pixels, one row for each image."""
    mean, std = (np.array(values) for values in statistics)
    x = (np.asarray(pixels, np.float64) / 255 - mean) / std
    return torch.from_numpy(x.reshape(len(x), -1))


def own_statistics():
    """Mean and standard deviation of the channels of the retain set."""
    x = request.PIXELS[request.RETAINED] / 255
    return x.mean((0, 1, 2)), x.std((0, 1, 2))


X = seen(request.PIXELS)


def arrays_of(theta):
    """Kernels and biases by turns."""
    parts = torch.split(theta, SIZES)
    return [part.reshape(shape) for part, shape in zip(parts, request.SHAPES, strict=True)]


def logits(theta, x):
    """Of three dense layers."""
    one, a, two, b, three, c = arrays_of(theta)
    return ((x @ one + a).relu() @ two + b).relu() @ three + c


def where(*chosen):
    """1 at the parameters of some arrays, 0 at the others."""
    return torch.cat([torch.full((n,), float(i in chosen)) for i, n in enumerate(SIZES)]).double()


PART = {"beginning": where(0, 1), "intermediate": where(2, 3), "final": where(4, 5)}
KERNELS = where(0, 2, 4)


def loss_on(rows, labels=LABELS, x=X, **rest):
    """The mean cross-entropy on some samples, of the parameters."""
    return lambda theta: F.cross_entropy(logits(theta, x[rows]), labels[rows], **rest)


def gradient(loss, theta=ORIGINAL):
    """Of a function of the parameters."""
    theta = theta.clone().requires_grad_()
    return torch.autograd.grad(loss(theta), theta)[0]


def cosine(steps):
    """Learning rates that fall to 0 along a cosine."""
    return [request.RATE * (1 + math.cos(math.pi * step / steps)) / 2 for step in range(steps)]


def descend(theta, losses, rates=None, free=1.0, optimizer=torch.optim.SGD, **settings):
    """A step for each loss, of the ``free`` parameters alone."""
    theta = theta.clone().requires_grad_()
    settings = settings or {"momentum": request.MOMENTUM}
    optimizer = optimizer([theta], lr=request.RATE, **settings)
    for loss, rate in zip(losses, rates or [request.RATE] * len(losses), strict=True):
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        loss(theta).backward()
        theta.grad *= free
        optimizer.step()
    return theta.detach()


def twice(loss, theta=ORIGINAL, free=1.0):
    """Two steps on one loss."""
    return descend(theta, [loss, loss], cosine(2), free)


def apart(teacher, student):
    """KL(p_T(teacher) || p_T(student)) of each row of logits."""
    p, q = (F.log_softmax(z / request.TEMPERATURE, 1) for z in (teacher, student))
    return F.kl_div(q, p, log_target=True, reduction="none").sum(1)


def fast_retraining():
    """Smoothed labels; half of the images mirrored in the first epoch, the others in the second."""
    turns = np.tile(request.TURNS, (2, 1)) ^ np.array([[False], [True]])
    losses = []
    for turn in turns:
        pixels = request.PIXELS[request.RETAINED].copy()
        pixels[turn] = pixels[turn][:, :, ::-1]
        x, labels = seen(pixels, own_statistics()), LABELS[KEEP]
        losses.append(loss_on(slice(None), labels, x, label_smoothing=request.SMOOTHING))
    return descend(FRESH, losses, [request.RATE, request.RATE / 2])


def distillation():
    """CE + beta T^2 KL(original || student)."""
    x, teacher = seen(request.PIXELS, own_statistics())[KEEP], logits(ORIGINAL, X[KEEP])

    def loss(theta):
        student = logits(theta, x)
        far = request.TEMPERATURE**2 * apart(teacher, student).mean()
        return F.cross_entropy(student, LABELS[KEEP]) + request.DIVERGENCE * far

    return twice(loss, FRESH)


def bad_teaching():
    """An untrained teacher for the forget set, the original for the retain set."""

    def loss(theta):
        bad = apart(logits(FRESH, X[GO]), logits(theta, X[GO])).sum()
        good = apart(logits(ORIGINAL, X[KEEP]), logits(theta, X[KEEP])).sum()
        return request.CASES["bad_teaching"]["loss_scale"] * (bad + good) / request.COUNT

    return twice(loss)


def sparsity():
    """CE + gamma |theta|_1, where gamma falls to 0 over the first half of the epochs."""

    def loss_at(epoch):
        gamma = request.L1 * max(0, 1 - epoch / 2)
        return lambda theta: loss_on(KEEP)(theta) + gamma * theta.abs().sum()

    return descend(ORIGINAL, [loss_at(epoch) for epoch in range(4)], cosine(4))


def largest(scores, share):
    """1 at a share of the scores, the largest, which are not near the next."""
    count = round(share * len(scores))
    ordered = scores.sort(descending=True).values
    assert ordered[count - 1] > 1.001 * ordered[count]
    return (scores >= ordered[count - 1]).double()


def prune_and_unlearn():
    """SynFlow: |theta dR/dtheta| where R = 1' |theta_3| |theta_2| |theta_1| 1; then fine-tuning."""
    settings = request.CASES["prune_and_unlearn"]
    mask, kernels = KERNELS.clone(), KERNELS.bool()
    for number in range(1, settings["rounds"] + 1):
        theta = (ORIGINAL.abs() * mask).requires_grad_()
        flow = torch.ones(1, X.shape[1]).double()
        for kernel in arrays_of(theta)[::2]:
            flow = flow @ kernel
        (slope,) = torch.autograd.grad(flow.sum(), theta)
        scores = (theta * slope).detach().abs()[kernels]
        mask[kernels] = largest(scores, settings["density"] ** (number / settings["rounds"]))
    free = mask + 1 - KERNELS
    return twice(loss_on(KEEP), ORIGINAL * free, free)


def saliency():
    """Random labels, learnt by the parameters with the largest gradients on the forget set."""
    return twice(relabelled, free=largest(gradient(loss_on(GO)).abs(), request.SHARE))


def relabelled(theta):
    """CE on the retain set and on the forget set with wrong labels."""
    labels = LABELS.clone()
    labels[GO] = WRONG
    return loss_on(ALL, labels)(theta)


def negative_gradient():
    """alpha CE(R) - (1 - alpha) CE(F)."""
    alpha = request.CASES["negative_gradient"]["alpha"]
    return twice(lambda theta: alpha * loss_on(KEEP)(theta) - (1 - alpha) * loss_on(GO)(theta))


def scrub():
    """By turns away from the original on the forget set, and near it on the retain set."""
    settings = request.CASES["scrub"]

    def far(theta, rows):
        own = apart(logits(ORIGINAL, X[rows]), logits(theta, X[rows]))
        return request.TEMPERATURE**2 * own.mean()

    def away(theta):
        return -far(theta, GO)

    def back(theta):
        return settings["alpha"] * far(theta, KEEP) + settings["gamma"] * loss_on(KEEP)(theta)

    return descend(ORIGINAL, [away, back, away, back])


def boundary_shrink():
    """The forget set as the likeliest of the other classes, one step of FGSM off its own."""
    inputs = torch.from_numpy(request.PIXELS[request.FORGOTTEN] / 255).requires_grad_()
    mean, std = torch.tensor(request.MEAN), torch.tensor(request.STD)

    def outputs(inputs):
        return logits(ORIGINAL, ((inputs - mean) / std).flatten(1))

    loss = F.cross_entropy(outputs(inputs), LABELS[GO], reduction="sum")
    (slope,) = torch.autograd.grad(loss, inputs)
    there = outputs(inputs.detach() + 0.1 * slope.sign())
    there[torch.arange(len(GO)), LABELS[GO]] = -math.inf
    labels = LABELS.clone()
    labels[GO] = there.argmax(1)
    return descend(ORIGINAL, [loss_on(GO, labels)] * 2)


def jacobians(rows):
    """Of the logits, samples by classes by parameters; and the logits."""
    return jacobian(lambda theta: logits(theta, X[rows]), ORIGINAL), logits(ORIGINAL, X[rows])


def influence():
    """theta + alpha / N_R (G_R + mu)^-1 sum of the gradients on F."""
    settings = request.CASES["influence"]
    slopes, outputs = jacobians(KEEP)
    p = outputs.softmax(1)
    bends = torch.diag_embed(p) - p[:, :, None] * p[:, None]
    curved = torch.einsum("nap,nab,nbq->pq", slopes, bends, slopes) / len(KEEP)
    curved += settings["damping"] * torch.eye(len(curved))
    whole = len(GO) * gradient(loss_on(GO))
    return ORIGINAL + settings["alpha"] / len(KEEP) * torch.linalg.solve(curved, whole)


def ntk_scrubbing():
    """theta + s (delta_R - delta_D), two ridge regressions of the linearised logits."""
    settings = request.CASES["ntk_scrubbing"]
    damping = settings["damping"]

    def fitted(rows):
        slopes, outputs = jacobians(rows)
        slopes, truth = slopes.flatten(0, 1), F.one_hot(LABELS[rows], request.CLASSES)
        left = slopes.T @ slopes / len(rows) + damping * torch.eye(slopes.shape[1])
        error = settings["target"] * truth - outputs
        return torch.linalg.solve(left, slopes.T @ error.flatten() / len(rows) - damping * ORIGINAL)

    return ORIGINAL + settings["scale"] * (fitted(KEEP) - fitted(ALL))


def selective_synaptic_dampening(case):
    """min(lambda I_D / I_F, 1) theta where I_F > alpha I_D."""
    settings = request.CASES[case]

    def importance(rows):
        if settings.get("batch_size") == 1:
            return torch.stack([gradient(loss_on(row[None])) ** 2 for row in rows]).mean(0)
        return gradient(loss_on(rows)) ** 2

    whole, forget = importance(ALL), importance(GO)
    chosen = forget > settings["alpha"] * whole
    near = (forget / (settings["alpha"] * whole) - 1).abs()[forget > 0]
    assert 0 < chosen.sum() < len(chosen) / 2
    assert near.min() > 3e-5, near.min()
    factor = torch.clamp(settings["dampening"] * whole / forget, max=1)
    return torch.where(chosen, factor * ORIGINAL, ORIGINAL)


def modular():
    """Resets; beginning on the reduced retain set, final on remembrance samples; intermediate.

    The reduced retain set: what stays of clusters that lost an image, and the condensed images of
    the others, which count as often as there are images in them.
    """
    settings = request.CASES["modular"]
    lost = set(request.CLUSTERS[request.FORGOTTEN])
    real = [row for row in request.RETAINED if request.CLUSTERS[row] in lost]
    whole = [number for number in range(len(request.CONDENSED)) if number not in lost]
    members = [np.flatnonzero(request.CLUSTERS == number) for number in whole]
    x = seen(np.concatenate([request.PIXELS[real], request.CONDENSED[whole]]))
    labels = LABELS[real + [rows[0] for rows in members]]
    counts = torch.tensor([1.0] * len(real) + [len(rows) for rows in members]).double()

    def reduced(theta):
        return F.cross_entropy(logits(theta, x), labels, reduction="none") @ counts / counts.sum()

    keep = settings["resets"][0]["keep"]
    theta = ORIGINAL + (1 - keep) * PART["final"] * (FRESH - ORIGINAL)
    # Frozen parts are constants: the steps of a part are a descent of its own, of its own momentum.
    velocity = {part: torch.zeros_like(theta) for part in PART}
    for number in range(settings["rounds"]):
        steps = [("beginning", reduced), ("final", on_remembrance)]
        for part, loss in steps[: 1 + (number < settings["rounds"] - settings["tail"])]:
            slope = gradient(loss, theta) * PART[part]
            velocity[part] = request.MOMENTUM * velocity[part] + slope
            theta = theta - request.RATE * velocity[part]
    return descend(theta, [reduced], free=PART["intermediate"])


def on_remembrance(theta):
    """CE on the remembrance samples."""
    labels = torch.arange(request.CLASSES)
    return F.cross_entropy(logits(theta, seen(request.REMEMBERED)), labels)


def offline():
    """Rounds: final, as it was, on remembrance samples; then intermediate on all images."""
    theta = ORIGINAL
    for _ in range(request.OFFLINE["rounds"]):
        theta = torch.where(PART["final"] == 1, ORIGINAL, theta)
        theta = descend(theta, [on_remembrance], free=PART["final"])
        theta = descend(theta, [loss_on(ALL)], free=PART["intermediate"])
    return theta


def fisher_noise(case):
    """The root of alpha min(1 / F, c)^q with F = E_x sum_y p(y|x) (grad log p(y|x))^2."""
    settings = {"power": 1.0, "largest": 1e3} | request.FISHER[case]
    information = torch.zeros_like(ORIGINAL)
    for x in X[KEEP]:
        p = logits(ORIGINAL, x).softmax(0)
        for y in range(request.CLASSES):
            slope = gradient(lambda theta, x=x, y=y: logits(theta, x).log_softmax(0)[y])
            information += p[y] * slope**2 / len(KEEP)
    variance = torch.clamp(1 / information, max=settings["largest"]) ** settings["power"]
    variance = settings["alpha"] * variance
    if "inputs" in case:  # the mean over the inputs of each output
        means = [v.mean(0).expand_as(v) if v.ndim > 1 else v for v in arrays_of(variance)]
        variance = torch.cat([v.flatten() for v in means])
    return variance.sqrt()


def eu_k():
    """Fresh last two parts, trained on the retain set."""
    last = PART["intermediate"] + PART["final"]
    return twice(loss_on(KEEP), torch.where(last == 1, FRESH, ORIGINAL), last)


def cf_k():
    """The last part, trained by Adam on the retain set at the rates of a cosine."""
    rate = request.CASES["cf_k"]["optimizer"]["learning_rate"]
    rates = [rate / request.RATE * r for r in cosine(2)]
    last = PART["final"]
    adam = {"optimizer": torch.optim.Adam, "betas": (0.9, 0.999)}
    return descend(ORIGINAL, [loss_on(KEEP)] * 2, rates, last, **adam)


def values():
    """The parameters that each method leaves, less the original's; the noise of Fisher's."""
    after = {
        "retrain": twice(loss_on(KEEP, x=seen(request.PIXELS, own_statistics())), FRESH),
        "catastrophic_forgetting": twice(loss_on(KEEP)),
        "random_labels": twice(relabelled),
        "gradient_ascent": descend(ORIGINAL, [lambda theta: -loss_on(GO)(theta)] * 2),
        "offline": offline(),
    }
    for case in request.CASES.keys() - after:
        name = request.method_of(case)
        after[case] = globals()[name](*[case] * (name == "selective_synaptic_dampening"))
    found = {name: theta - ORIGINAL for name, theta in after.items()}
    found |= {case: fisher_noise(case) for case in request.FISHER}
    return {name: np.float32(found[name]) for name in sorted(found)}
