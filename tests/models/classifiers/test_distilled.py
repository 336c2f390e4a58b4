"""Hard distillation: the loss, and that the teacher is no part of the student."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from conftest import CLASSES
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope, init_default_scope

from mmvitx.checkpoints import load_file
from mmvitx.errors import UserError

DISTILLED = """

model['type'] = 'mmvitx.DistilledImageClassifier'
model['alpha'] = 0.25
model['teacher'] = dict(config='{config}', checkpoint='{checkpoint}')
"""


@pytest.fixture(scope='module')
def teacher(tool, write_config, tmp_path_factory):
    """A config and a checkpoint, as a training leaves them."""
    folder = tmp_path_factory.mktemp('teacher')
    config = write_config(folder, 'mmpretrain')
    tool('train').main([config, '--work-dir', str(folder / 'work')])
    return config, str(folder / 'work/epoch_1.pth')


@pytest.fixture
def config(teacher, write_config, tmp_path):
    extra = DISTILLED.format(config=teacher[0], checkpoint=teacher[1])
    return write_config(tmp_path, 'mmpretrain', extra=extra)


@pytest.fixture
def build(config):
    init_default_scope('mmpretrain')

    def build(**settings):
        cfg = Config.fromfile(config)
        cfg.model.update(settings)
        return MODELS.build(cfg.model)

    yield build
    DefaultScope._instance_dict.clear()


def batch():
    from mmpretrain.structures import DataSample

    torch.manual_seed(0)
    return torch.randn(4, 3, 32, 32), [DataSample().set_gt_label(i % 3) for i in range(4)]


def test_the_loss_is_that_of_deit(build):
    model = build()
    model.init_weights()
    images, samples = batch()
    losses = model.train().loss(images, samples)
    assert not model.teacher.training and not any(m.training for m in model.teacher.modules())
    model.eval()  # the same numbers from the batch norms
    losses = model.loss(images, samples)
    logits, theirs = model(images), model.teacher(images)
    labels = torch.tensor([0, 1, 2, 0])
    torch.testing.assert_close(losses['loss'], 0.75 * F.cross_entropy(logits, labels))
    expected = 0.25 * F.cross_entropy(logits, theirs.argmax(1))
    torch.testing.assert_close(losses['loss_distill'], expected)
    sum(losses.values()).backward()
    assert all(p.grad is None for p in model.teacher.parameters())
    assert all(p.grad is not None for p in model.parameters())


def test_the_teacher_is_no_part_of_the_student(build, teacher):
    model, plain = build(), MODELS.build(Config.fromfile(teacher[0]).model)
    assert model.teacher is None  # evaluating needs none
    model.init_weights()
    assert model.state_dict().keys() == plain.state_dict().keys()
    assert len([*model.parameters()]) == len([*plain.parameters()])
    assert copy.deepcopy(model).teacher is None and model.teacher is not None
    model.double()
    assert {p.dtype for p in model.teacher.parameters()} == {torch.float64}
    expected = load_file(teacher[1])['state_dict']
    for name, value in model.teacher.float().state_dict().items():
        assert torch.equal(value, expected[name]), name


def test_the_teacher_gets_images_in_its_own_normalization(build, teacher):
    cfg = Config.fromfile(teacher[0])
    ours = dict(type='ClsDataPreprocessor', mean=[10, 20, 30], std=[2, 3, 4], to_rgb=True)
    theirs = dict(type='ClsDataPreprocessor', mean=[5, 6, 7], std=[9, 8, 7])
    teacher_config = dict(model={**cfg.model, 'data_preprocessor': theirs})
    model = build(
        data_preprocessor=ours, teacher=dict(config=teacher_config, checkpoint=teacher[1])
    )
    seen = []
    model.load_teacher().register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    pixels = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    model.ask_teacher(model.data_preprocessor(dict(inputs=pixels))['inputs'])
    expected = model.teacher.data_preprocessor(dict(inputs=pixels))['inputs']
    torch.testing.assert_close(seen[0], expected, rtol=0, atol=1e-4)


def test_the_tools_train_resume_and_test_it(config, teacher, tool, tmp_path):
    work = str(tmp_path / 'work')
    with open(config, 'a') as file:
        file.write("custom_hooks = [dict(type='EMAHook')]\n")
    runner = tool('train').main([config, '--work-dir', work])
    assert {'loss', 'loss_distill'} <= {
        name.split('/')[1] for name in runner.message_hub.log_scalars
    }
    checkpoint = load_file(f'{work}/epoch_1.pth')
    assert checkpoint['state_dict'].keys() == load_file(teacher[1])['state_dict'].keys()
    for evaluated in (config, teacher[0]):  # a plain classifier takes it as it is
        metrics = tool('test').main([evaluated, f'{work}/epoch_1.pth', '--work-dir', work])
        assert 'accuracy/top1' in metrics


ERRORS = {
    'other number': (['model.head.num_classes=3'], 'teacher has 3 classes and the student 5'),
    'no file': (['model.teacher.checkpoint=no.pth'], 'no.pth does not exist'),
    'no weights': (['model.teacher.checkpoint='], 'the teacher has no weights'),
    'no such model': (['model.teacher.config=no_such_model'], "teacher 'no_such_model' cannot be"),
    'incomplete': (['model.teacher.checkpoint={half}'], 'has not all its weights: .* lacks'),
    'other classes': (['model.teacher.checkpoint={other}'], 'teacher knows the classes a, b, c'),
    'alpha': (['model.alpha=2'], 'alpha, the weight of the teacher'),
}


@pytest.mark.parametrize('error', ERRORS)
def test_a_teacher_that_does_not_fit_is_a_sentence(config, teacher, tool, tmp_path, error):
    checkpoint = load_file(teacher[1])
    half = {n: v for n, v in checkpoint['state_dict'].items() if 'layer4' not in n}
    torch.save(dict(state_dict=half), tmp_path / 'half.pth')
    checkpoint['meta']['dataset_meta'] = dict(classes=('a', 'b', 'c'))
    torch.save(checkpoint, tmp_path / 'other.pth')
    options, message = ERRORS[error]
    options = [o.format(half=tmp_path / 'half.pth', other=tmp_path / 'other.pth') for o in options]
    if error == 'other number':
        classes = (*CLASSES, 'd', 'e')
        options = ['model.head.num_classes=5']
        options.append(f'train_dataloader.dataset.metainfo.classes={classes}'.replace(' ', ''))
        options.append(f'val_dataloader.dataset.metainfo.classes={classes}'.replace(' ', ''))
    with pytest.raises(UserError, match=message) as raised:
        tool('train').main([config, '--work-dir', str(tmp_path / 'w'), '--cfg-options', *options])
    assert '\n' not in str(raised.value)
