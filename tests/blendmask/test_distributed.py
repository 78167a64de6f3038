"""Two gloo processes with half a batch each against one process with the whole batch: the same gradients.

Batch norm and the positives' totals are where distributed runs usually go wrong: the first is taken out of the
comparison by running it on its stored statistics, the second is what the test is about.
"""

import sys

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from tiny import draw, tiny_config

from blendlab.blendmask import BlendMask
from blendlab.blendmask.data import Sample, from_numpy, truth_of
from blendlab.blendmask.trainer import Settings, Trainer


class FourPictures:
    """Pictures with 2, 1, 0 and 3 objects, so that the halves of a batch differ in their positives."""

    categories = ("square", "disc")
    pictures = (
        draw((4, 4, 30, 40), (20, 20, 60, 50)),
        draw((5, 5, 60, 60)),
        draw(),
        draw((2, 2, 30, 30), (33, 2, 62, 30), (10, 34, 60, 60)),
    )

    def sample(self, index):
        picture = self.pictures[index % 4]
        return Sample(from_numpy(picture.image), truth_of(picture, self.categories))


def train_two_steps(batch):
    torch.manual_seed(0)
    model = BlendMask(tiny_config(nested=False))
    trainer = Trainer(model, FourPictures(), Settings(steps=2, batch=batch, sides=(7,), mask_limit=10_000, warmup=1))
    model.eval()
    model.train = lambda mode=True: model  # batch norm keeps to its statistics
    found = [trainer.step() for _ in range(2)]
    return found, {name: value.clone() for name, value in model.state_dict().items()}


def one_of_two(rank, file):
    sys.path.insert(0, __file__.rsplit("/", 1)[0])
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
    found, state = train_two_steps(batch=2)
    torch.save({"losses": found, "state": state}, f"{file}.{rank}")
    dist.destroy_process_group()


def test_two_processes_learn_what_one_learns_from_all_images(tmp_path):
    mp.spawn(one_of_two, args=(str(tmp_path / "meeting"),), nprocs=2)
    first, second = (torch.load(tmp_path / f"meeting.{rank}", weights_only=True) for rank in (0, 1))
    for name, value in first["state"].items():
        assert torch.equal(value, second["state"][name]), name
    _, expected = train_two_steps(batch=4)
    for name, value in first["state"].items():
        torch.testing.assert_close(value, expected[name], atol=2e-5, rtol=1e-3, msg=name)
    assert first["losses"] != second["losses"]
