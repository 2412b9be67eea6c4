"""Non-maximum suppression against the definition."""

import pytest
import torch

from evm_deploy.regions.suppression import suppress_boxes, suppress_by_group


def measure_overlap(one, other):
    w = min(one[2], other[2]) - max(one[0], other[0])
    h = min(one[3], other[3]) - max(one[1], other[1])
    common = max(w, 0) * max(h, 0)
    whole = sum((b[2] - b[0]) * (b[3] - b[1]) for b in (one, other)) - common
    return common / whole if whole else 0


def suppress_slowly(boxes, scores, most_overlap, least_score, most):
    kept = []
    for place in sorted(range(len(boxes)), key=lambda each: (-float(scores[each]), each)):
        near = any(measure_overlap(boxes[place].tolist(), boxes[other].tolist()) > most_overlap for other in kept)
        if scores[place] > least_score and not near:
            kept.append(place)
    return kept[:most]


def make_boxes(count, seed):
    g = torch.Generator().manual_seed(seed)
    corners = torch.randint(0, 12, (count, 2, 2), generator=g).float()  # many alike, some without area
    scores = torch.randint(0, 9, (count,), generator=g) / 8  # many ties
    return torch.cat([corners.amin(1), corners.amax(1)], 1), scores, torch.randint(0, 3, (count,), generator=g)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(("most_overlap", "least_score", "most"), [(0.5, 0.3, 100), (0.0, -0.5, 100), (0.7, 0.125, 3)])
def test_as_the_definition(seed, most_overlap, least_score, most):
    boxes, scores, _ = make_boxes(60, seed)
    found = suppress_boxes(boxes, scores, most_overlap, least_score, most)
    assert found.tolist() == suppress_slowly(boxes, scores, most_overlap, least_score, most)


@pytest.mark.parametrize("seed", range(4))
def test_groups_do_not_see_each_other(seed):
    boxes, scores, groups = make_boxes(60, seed)
    found = suppress_by_group(boxes, scores, groups, 0.5, 0.2, 100).tolist()
    alone = []
    for group in range(3):
        own = (groups == group).nonzero()[:, 0]
        alone += [int(own[i]) for i in suppress_slowly(boxes[own], scores[own], 0.5, 0.2, 100)]
    assert sorted(found) == sorted(alone)
    assert scores[found].tolist() == sorted(scores[found].tolist(), reverse=True)


def test_nothing_to_suppress():
    assert suppress_boxes(torch.zeros(0, 4), torch.zeros(0), 0.5, 0.0, 5).shape == (0,)
    boxes = torch.tensor([[0.0, 0, 2, 2]]).expand(3, 4)
    assert suppress_by_group(boxes, torch.zeros(3), torch.zeros(3).long(), 0.5, 0.5, 5).shape == (0,)
    assert suppress_boxes(boxes, torch.ones(3), 1.0, 0.0, 5).tolist() == [0, 1, 2]  # at most the threshold stays
