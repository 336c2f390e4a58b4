"""Label maps out of instance annotations: what is on top, what is ignored, and going on."""

import json
import os

import cv2
import numpy as np
import pytest

from mmvitx.datasets import coco_semantic
from mmvitx.datasets.coco_semantic import Outline, convert, draw_labels
from mmvitx.errors import UserError

pytest.importorskip('pycocotools')

SIZE = (20, 30)


def box(x, y, width, height) -> list:
    return [[x, y, x + width, y, x + width, y + height, x, y + height]]


def code(x, y, width, height) -> dict:
    """An uncompressed run-length code, as COCO has it for crowds: columns of zeros, ones, ..."""
    column = [y, height, SIZE[0] - y - height]
    counts = [x * SIZE[0] + y]
    for _ in range(width):
        counts += [height, column[0] + column[2]]
    counts[-1] = SIZE[0] * SIZE[1] - sum(counts[:-1])
    return dict(size=list(SIZE), counts=counts)


def test_the_smaller_object_is_on_top():
    table, cup = Outline(0, box(0, 0, 20, 20), 'table'), Outline(1, box(5, 5, 4, 4), 'cup')
    expected = np.full(SIZE, 255)
    expected[:20, :20] = 0
    expected[5:9, 5:9] = 1
    for order in ((table, cup), (cup, table)):
        labels = draw_labels(SIZE, order)
        assert labels.dtype == np.uint8
        np.testing.assert_array_equal(labels, expected)


def test_all_forms_of_a_segmentation():
    from pycocotools import mask

    compressed = mask.frPyObjects(code(3, 4, 5, 6), *SIZE)
    for segmentation in (box(3, 4, 5, 6), code(3, 4, 5, 6), compressed):
        labels = draw_labels(SIZE, [Outline(7, segmentation, 'any')])
        assert (labels == 7).sum() == 30 and (labels[4:10, 3:8] == 7).all()
    two = box(0, 0, 2, 2) + box(10, 10, 2, 2) + [[1, 1, 20, 15]]  # the last has no area
    assert (draw_labels(SIZE, [Outline(7, two, 'any')]) == 7).sum() == 8
    assert (draw_labels(SIZE, [Outline(7, [], 'any')]) == 255).all()


def annotate(folder, *objects, **changes):
    """Write annotations of two images, objects (category, segmentation, iscrowd) in the first."""
    coco = dict(
        images=[dict(id=i, file_name=f'{i}.jpg', height=SIZE[0], width=SIZE[1]) for i in (1, 2)],
        annotations=[
            dict(id=i, image_id=1, category_id=category, segmentation=shape, iscrowd=crowd)
            for i, (category, shape, crowd) in enumerate(objects)
        ],
        categories=[dict(id=90, name='cup'), dict(id=7, name='table')],
    )
    path = folder / 'instances.json'
    path.write_text(json.dumps({**coco, **changes}))
    return path


def read(path):
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


@pytest.mark.parametrize('jobs', [1, 2])
def test_a_file_is_converted(tmp_path, capsys, jobs):
    """A crowd hides what is larger, and single objects stay visible in it."""
    table, crowd, cup = box(0, 0, 20, 20), code(2, 2, 10, 10), box(4, 4, 2, 2)
    path = annotate(tmp_path, (7, table, 0), (90, crowd, 1), (90, cup, 0))
    assert convert(path, tmp_path / 'out', jobs) == (2, 0)
    labels = read(tmp_path / 'out/1.png')
    assert labels.shape == SIZE and labels.dtype == np.uint8
    assert [int(labels[y, x]) for y, x in ((0, 0), (3, 3), (4, 4), (19, 29))] == [1, 255, 0, 255]
    assert (read(tmp_path / 'out/2.png') == 255).all()
    assert (tmp_path / 'out/classes.txt').read_text().split() == ['cup', 'table']
    assert '2/2' in capsys.readouterr().err


def test_it_goes_on_and_leaves_nothing_half(tmp_path, monkeypatch):
    path, out = annotate(tmp_path, (7, box(0, 0, 9, 9), 0)), tmp_path / 'out'
    draw = coco_semantic._draw

    def interrupted(task):
        if task.path.name == '2.png':
            raise KeyboardInterrupt
        draw(task)

    monkeypatch.setattr(coco_semantic, '_draw', interrupted)
    with pytest.raises(KeyboardInterrupt):
        convert(path, out, 1)
    monkeypatch.undo()
    assert sorted(os.listdir(out)) == ['1.png', 'classes.txt', 'semantic.json']
    before = (out / '1.png').stat().st_mtime_ns
    assert convert(path, out, 1) == (2, 1)
    assert (out / '1.png').stat().st_mtime_ns == before
    assert convert(path, out) == (2, 2)


def test_a_full_disk_leaves_no_piece(tmp_path, monkeypatch):
    path, out = annotate(tmp_path), tmp_path / 'out'
    write = coco_semantic.Path.write_bytes

    def full(self, content):
        write(self, content[:3])
        if '.png' in self.name:
            raise OSError(28, 'No space left on device')

    monkeypatch.setattr(coco_semantic.Path, 'write_bytes', full)
    with pytest.raises(UserError, match='1.png cannot be written: No space left'):
        convert(path, out, 1)
    assert sorted(os.listdir(out)) == ['classes.txt', 'semantic.json']


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    out = tmp_path / 'out'
    convert(annotate(tmp_path), out, 1)
    other = annotate(tmp_path, (7, box(0, 0, 9, 9), 0))
    with pytest.raises(UserError, match='label maps of other annotations'):
        convert(other, out, 1)
    with pytest.raises(UserError, match='has no semantic.json'):
        convert(other, tmp_path, 1)
    with pytest.raises(UserError, match='instances.json cannot be written|has no semantic.json'):
        convert(other, other, 1)


@pytest.mark.parametrize(
    'objects, changes, message',
    [
        ([(7, 'text', 0)], {}, 'segmentation of annotation 0 in .*instances.json is none of COCO'),
        (
            [(7, dict(size=[4, 4], counts=[16]), 0)],
            {},
            r'of \[4, 4\] pixels, the image of \[20, 30\]',
        ),
        ([(8, [], 0)], {}, 'annotation 0 in .*instances.json has the category_id 8, which'),
        ([(7, [], 0)], dict(images=[]), 'has the image_id 1, which the file lacks'),
        ([], dict(categories=[{}]), "instances.json holds no instance .* 'id' is missing"),
        ([], dict(images={}), None),
        (
            [],
            dict(categories=[dict(id=i, name=str(i)) for i in range(256)]),
            'has 256 categories; 255 at most',
        ),
        (
            [],
            dict(images=[dict(id=1, file_name='../a.jpg', height=2, width=2)]),
            'leads out of the folder',
        ),
        (
            [],
            dict(images=[dict(id=i, file_name=f'a.{i}', height=2, width=2) for i in (1, 2)]),
            'differ in the ending of their file_name only',
        ),
    ],
)
def test_what_is_wrong_is_one_sentence(tmp_path, objects, changes, message):
    path = annotate(tmp_path, *objects, **changes)
    if message is None:
        assert convert(path, tmp_path / 'out', 1) == (0, 0)
        return
    with pytest.raises(UserError, match=message) as error:
        convert(path, tmp_path / 'out', 1)
    assert '\n' not in str(error.value)


def test_no_annotation_file(tmp_path):
    with pytest.raises(UserError, match='no.json cannot be read: No such file'):
        convert(tmp_path / 'no.json', tmp_path / 'out')
    (tmp_path / 'cut.json').write_text('{"images": [')
    with pytest.raises(UserError, match='cut.json holds no instance annotations of COCO'):
        convert(tmp_path / 'cut.json', tmp_path / 'out')


def test_the_tool(tool, tmp_path, monkeypatch, capsys):
    tool = tool('dataset_converters/coco_instances_to_semantic')
    arguments = [str(annotate(tmp_path)), str(tmp_path / 'out'), '--jobs', '1']
    tool.main(arguments)
    assert '2 label maps, 0 of which were there' in capsys.readouterr().out

    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr('mmvitx.datasets.coco_semantic.convert', interrupted)
    with pytest.raises(SystemExit) as exit:
        tool.main(arguments)
    assert exit.value.code == 130
    assert 'the same command goes on' in capsys.readouterr().err


def test_a_number_of_processes_below_one(tmp_path):
    with pytest.raises(UserError, match='at least 1, not -2'):
        convert(annotate(tmp_path), tmp_path / 'out', -2)
    assert not (tmp_path / 'out').exists()
