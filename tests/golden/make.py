"""Golden values: what PyTorch computes, which every run of the tests holds this library to.

Made again, where PyTorch is (the extra ``bench``), from the folder of the checkout, by

    PYTHONPATH=.:tests python -m golden.make

which writes the archives beside this file. Inputs are in ``given``: nothing is drawn at random.
"""

import json

import numpy as np
from golden import given, request


def torch_network(name):
    """The network in PyTorch, with its weights, in double precision.

    VGG16 with BatchNorm is torchvision's to the letter: an average to 7x7 fields is flattened.
    """
    import torch

    from experiments.benchmarks.torch_twins import twin

    model, (side, _, channels) = given.model_of(name)
    network = twin(model, side, channels)
    if name == "vgg16_bn":
        dense = network.classifier[0]
        network.features.append(torch.nn.AdaptiveAvgPool2d(7))
        network.classifier[0] = torch.nn.Linear(49 * model.channels[-1], dense.out_features)
    shapes = {
        key: tuple(value.shape)
        for key, value in network.state_dict().items()
        if "num_batches" not in key
    }
    weights = {k: torch.from_numpy(w) for k, w in given.weights_of(shapes).items()}
    network.load_state_dict(weights, strict=False)
    return network.double(), shapes


def seen(pixels):
    """What a network sees of pixels."""
    import torch

    x = (pixels / 255 - np.array(given.MEAN)) / np.array(given.STD)
    return torch.from_numpy(x.transpose(0, 3, 1, 2).copy())


def inputs_of(side):
    """What a network sees, and labels."""
    import torch

    pixels, labels = given.images_of(side)
    return seen(pixels), torch.from_numpy(labels).long()


def part_of(name, path):
    """The part that a layer of PyTorch is in; of MLP and CNN, whose parts all train, the first."""
    top, number = (*path.split("."), "0")[:2]
    if name == "resnet18":
        return {"layer3": "intermediate", "layer4": "final", "fc": "final"}.get(top, "beginning")
    if name != "vgg16_bn":
        return "beginning"
    # By torchvision's numbers: `intermediate` ends with the BatchNorm of its fifth convolution.
    edges = (int(number) >= 14) + (int(number) > 28)
    return "final" if top == "classifier" else ("beginning", "intermediate", "final")[edges]


def step_of(name):
    """Loss, and weights and statistics after a step of gradient descent on some parts.

    The running variances are those of the batch, as in JAX; PyTorch's are larger by n / (n - 1),
    where n is what a mean is over.
    """
    import torch

    network, _ = torch_network(name)
    counts, training = {}, []
    for path, layer in network.eval().named_modules():
        if list(layer.children()) or part_of(name, path) not in given.STEPS[name]:
            continue
        layer.train()
        training += layer.parameters()
        if isinstance(layer, torch.nn.BatchNorm2d):

            def note(layer, args, path=path):
                counts[f"{path}.running_var"] = args[0].numel() // args[0].shape[1]

            layer.register_forward_pre_hook(note)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    x, labels = inputs_of(given.SIZES[name][0])
    optimizer = torch.optim.SGD(training, given.LEARNING_RATE)
    loss = torch.nn.functional.cross_entropy(network(x), labels)
    loss.backward()
    optimizer.step()
    after = {key: value.numpy() for key, value in network.state_dict().items()}
    for key, count in counts.items():
        old = 0.9 * before[key].numpy()
        after[key] = old + (after[key] - old) * (count - 1) / count
    return loss.item(), {key: after[key] for key in after if "num_batches" not in key}


def network_values():
    """Shapes and logits of every network, and a step of some."""
    import torch

    found = {}
    for name, (side, _) in given.SIZES.items():
        network, shapes = torch_network(name)
        found[f"{name}/shapes"] = np.frombuffer(json.dumps(shapes).encode(), np.uint8)
        with torch.no_grad():
            found[f"{name}/logits"] = network.eval()(inputs_of(side)[0]).numpy()
        if name not in given.STEPS:
            continue
        loss, after = step_of(name)
        found[f"{name}/loss"] = np.float64(loss)
        found |= {f"{name}/step/{key}": np.float32(value) for key, value in after.items()}
    return found


def mlp_on_samples():
    """The MLP, what it sees of the samples, and their labels."""
    import torch

    network, _ = torch_network("mlp")
    pixels, labels = given.samples()
    return network.eval(), seen(pixels), torch.from_numpy(labels).long()


def matched_values():
    """Algorithm 2 by the letter: Adam on the weights of one cluster after another."""
    import torch

    network, x, _ = mlp_on_samples()

    def features(x):
        return network.classifier[:4](x.flatten(1))  # what the last layer sees

    last = given.MATCHING_STEPS[-1]
    weights = np.zeros((last + 1, len(x)))
    losses = np.zeros((last + 1, given.CLUSTERS.max() + 1))
    for cluster in np.unique(given.CLUSTERS):
        rows = np.flatnonzero(given.CLUSTERS == cluster)
        members = x[rows]
        target = features(members).mean(0).detach()
        w = torch.full((len(rows), 1, 1, 1), 1 / len(rows), dtype=x.dtype, requires_grad=True)
        optimizer = torch.optim.Adam([w], given.MATCHING_RATE)
        for step in range(last + 1):
            optimizer.zero_grad()
            loss = (features((w * members).sum(0, keepdim=True))[0] - target).square().sum()
            weights[step, rows], losses[step, cluster] = w.detach().flatten(), loss.item()
            loss.backward()
            optimizer.step()
    return {"matching/weights": weights, "matching/losses": losses}


def metric_values():
    """UM between the samples that stay and those that go, and OM of each."""
    import torch

    network, x, labels = mlp_on_samples()
    parameters = list(network.parameters())

    def gradient(rows):
        loss = torch.nn.functional.cross_entropy(network(x[rows]), labels[rows])
        found = torch.autograd.grad(loss, parameters)
        return loss.item(), torch.cat([part.flatten() for part in found])

    stays, goes = (gradient(torch.arange(len(x))[rows])[1] for rows in split())
    cosine = torch.nn.functional.cosine_similarity(stays, goes, dim=0)
    single = [gradient(torch.tensor([row])) for row in range(len(x))]
    first, second = (
        np.array([abs(loss - size(g).mean().item()) for loss, g in single])
        for size in (torch.abs, torch.square)
    )
    um = 100 * (1 - cosine).numpy()
    return {"metrics/um": um, "metrics/om_paper": first, "metrics/om_squared": second}


def split():
    """Rows of the samples that stay, and of those that go."""
    return slice(given.RETAINED), slice(given.RETAINED, None)


def _normal(values, pooled):
    """A normal distribution fitted to each list of margins; or all with the pooled variance."""
    import torch

    means = torch.stack([v.mean() for v in values])
    squares = torch.stack([(v - v.mean()).square().sum() for v in values])
    free = torch.tensor([len(v) - 1.0 for v in values], dtype=means.dtype)
    variance = squares.sum() / free.sum() if pooled else squares / free
    return torch.distributions.Normal(means, variance.sqrt())


def _lira(target, shadows, member, pooled):
    """Carlini et al.: online, the ratio of two densities; offline, the distance from outside."""
    import torch

    columns = range(shadows.shape[1])
    member = torch.from_numpy(member)
    inside = _normal([shadows[member[:, j], j] for j in columns], pooled)
    outside = _normal([shadows[~member[:, j], j] for j in columns], pooled)
    online = inside.log_prob(target) - outside.log_prob(target)
    return online, (target - outside.mean) / outside.stddev


def _u_lira(margins, unlearned):
    """Hayes et al.: each model against the others, less the next one of the other kind."""
    import torch

    count, scores = len(margins), torch.zeros_like(margins)
    for i in range(count):
        opposite = next(
            k % count for k in range(i + 1, i + count) if unlearned[k % count] != unlearned[i]
        )
        rest = [k for k in range(count) if k not in (i, opposite)]
        kinds = [[k for k in rest if unlearned[k] == kind] for kind in (True, False)]
        one, other = (_normal(list(margins[rows].T), pooled=True) for rows in kinds)
        scores[i] = one.log_prob(margins[i]) - other.log_prob(margins[i])
    return scores


def _rmia(target, shadows, member, population, beside, online):
    """Zarifzadeh et al.: how much of the population a sample beats by the factor."""
    import torch

    def average(p, inside, online):
        columns = range(p.shape[1])
        out = torch.stack([p[~inside[:, j], j].mean() for j in columns])
        if online:
            within = torch.stack([p[inside[:, j], j].mean() for j in columns])
        else:
            within = given.SHARE * out + 1 - given.SHARE
        return (within + out) / 2

    inside, seen_by_none = torch.from_numpy(member), torch.zeros(beside.shape, dtype=torch.bool)
    own = torch.sigmoid(target) / average(torch.sigmoid(shadows), inside, online)
    others = torch.sigmoid(population) / average(torch.sigmoid(beside), seen_by_none, False)
    beaten = own[:, :, None] / others[:, None] >= given.GAMMA
    return beaten.double().mean(-1)


def _klom(unlearned, oracles, bins=20, smoothing=1e-5):
    """Georgiev et al.: divergence between two histograms of the margins of each example."""
    import torch

    found = []
    for one, other in zip(unlearned.T, oracles.T, strict=True):
        both = torch.cat([one, other])
        edges = both.min().item(), both.max().item()
        p, q = (torch.histc(v, bins, *edges) / len(v) + smoothing for v in (one, other))
        p, q = p / p.sum(), q / q.sum()
        found.append(torch.nn.functional.kl_div(q.log(), p, reduction="sum"))
    return torch.stack(found)


def audit_values():
    """Scores of the attacks on made-up margins."""
    import torch

    def margins(name, models, examples):
        return torch.from_numpy(given.margins(name, models, examples))

    target = margins("targets", 2, given.EXAMPLES)
    shadows = margins("shadows", given.MODELS, given.EXAMPLES)
    population = margins("population", 2, given.POPULATION)
    beside = margins("population in shadows", given.MODELS, given.POPULATION)
    found = {}
    for variance in ("fixed", "per_example"):
        online, offline = _lira(target, shadows, given.MEMBER, variance == "fixed")
        found |= {
            f"audits/lira_online_{variance}": online,
            f"audits/lira_offline_{variance}": offline,
        }
    for online in (True, False):
        scores = _rmia(target, shadows, given.MEMBER, population, beside, online)
        found[f"audits/rmia_{'online' if online else 'offline'}"] = scores
    oracles = margins("oracles", given.MODELS - 1, given.EXAMPLES)
    both = torch.cat([shadows, oracles])
    unlearned = [True] * len(shadows) + [False] * len(oracles)
    found["audits/u_lira"] = _u_lira(both, unlearned)
    found["audits/klom"] = _klom(shadows, oracles)
    logits = margins("logits", given.EXAMPLES, given.CLASSES)
    p = torch.softmax(logits, 1)[
        torch.arange(given.EXAMPLES), torch.arange(given.EXAMPLES) % given.CLASSES
    ]
    found["audits/margins"] = torch.logit(p)
    return {key: value.numpy() for key, value in found.items()}


def method_values():
    """All but the networks and the unlearning methods."""
    return matched_values() | metric_values() | audit_values()


def unlearning_values():
    """The first steps of every unlearning method."""
    from golden import unlearning

    return unlearning.values()


if __name__ == "__main__":
    np.savez_compressed(given.NETWORKS, **network_values())
    np.savez_compressed(given.METHODS, **method_values())
    np.savez_compressed(request.ARCHIVE, **unlearning_values())
