"""Faulty annotations: what plain MMDetection makes of them, and of the mended copy."""

from __future__ import annotations

import copy
import json
import math
import re
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from PIL import Image

from mmvitx.datasets.coco_annotations import Split, examine_coco
from mmvitx.errors import UserError

pytest.importorskip('mmdet')
CLASSES = ('square', 'bar', 'plate')
NAN, INF = math.nan, math.inf


@pytest.fixture
def coco(tiny_data):
    return json.loads((tiny_data / 'coco.json').read_text())


@pytest.fixture
def write(tmp_path):
    def write(coco, name='faulty.json'):
        path = tmp_path / name
        path.write_text(json.dumps(coco))
        return str(path)

    return write


def examine(path, root, **settings):
    settings = {'classes': CLASSES, 'training': True, 'masks': True, 'oriented': True, **settings}
    return examine_coco(Split(path, folder=str(root / 'images'), **settings), 'train.dataset')


def load(path, root, **settings):
    """Load all with the plain host: boxes and labels by image, of objects that are learnt."""
    from mmdet.registry import DATASETS
    from mmdet.utils import register_all_modules

    register_all_modules()
    dataset = DATASETS.build(
        dict(
            type='CocoDataset',
            ann_file=path,
            data_prefix=dict(img=str(root / 'images')),
            metainfo=dict(classes=CLASSES),
            pipeline=[
                dict(type='LoadImageFromFile', **settings),
                dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
            ],
        )
    )
    loaded = {}
    for sample in dataset:
        boxes, masks = sample['gt_bboxes'].tensor, sample['gt_masks'].masks
        assert boxes.isfinite().all(), 'NaN or infinity would be learnt'
        assert masks.shape == (len(boxes), *sample['img'].shape[:2])
        assert (sample['height'], sample['width']) == sample['img'].shape[:2], 'size is wrong'
        learnt = ~torch.from_numpy(sample['gt_ignore_flags'])
        labels = sample['gt_bboxes_labels'][learnt.numpy()].tolist()
        loaded[sample['img_id']] = list(zip(boxes[learnt].tolist(), labels))
    return loaded


def evaluate(path, truth, metric=('bbox', 'segm')):
    """Evaluate predictions that are the objects of the clean file."""
    from mmdet.evaluation import CocoMetric
    from pycocotools import mask

    judge = CocoMetric(path, metric=list(metric))
    judge.dataset_meta = dict(classes=CLASSES)
    for image in truth['images']:
        anns = [one for one in truth['annotations'] if one['image_id'] == image['id']]
        boxes = torch.tensor([one['bbox'] for one in anns], dtype=torch.float)
        boxes[:, 2:] += boxes[:, :2]
        size = image['height'], image['width']
        masks = [mask.merge(mask.frPyObjects(one['segmentation'], *size)) for one in anns]
        predicted = dict(
            bboxes=boxes,
            scores=torch.ones(len(anns)),
            labels=torch.tensor([one['category_id'] - 1 for one in anns]),
            masks=masks,
        )
        sample = dict(img_id=image['id'], ori_shape=size, pred_instances=predicted)
        judge.process({}, [sample])
    return judge.evaluate(len(truth['images']))


def matches(pattern, text):
    return pattern is not None and re.search(pattern, text)


def set_ann(**values):
    def change(coco):
        coco['annotations'][4].update(values)

    return change


def drop_ann(key):
    return lambda coco: coco['annotations'][4].pop(key)


def set_image(**values):
    return lambda coco: coco['images'][1].update(values)


def drop_image(key):
    return lambda coco: coco['images'][1].pop(key)


def text_ids(coco):
    for one in coco['annotations']:
        one['category_id'] = str(one['category_id'])


def another_file(coco):
    coco['images'][1]['id'] = 0


def bad_polygon(*polygons):
    def change(coco):
        coco['annotations'][4]['segmentation'][:0] = polygons

    return change


def other_size(coco):
    # as many pixels, so that numpy reshapes it without a word
    coco['annotations'][4]['segmentation'] = dict(size=[32, 128], counts=[10, 5, 4081])


def lacks_class(coco):
    del coco['categories'][0]
    coco['annotations'] = [one for one in coco['annotations'] if one['category_id'] != 1]


# What is wrong, what is said of it, and the objects that remain of the 12; each makes the plain
# host fail, or load something else than the mended copy holds.
MENDED = [
    (set_ann(bbox=[0, 0, INF, 9]), 'boxes that are missing or not .* taken from the segm', 12),
    (drop_ann('bbox'), 'boxes that are missing or not four .* taken from the segmentation: 1', 12),
    (set_ann(bbox=[0, 0, 9]), 'taken from the segmentation: 1', 12),
    (set_ann(bbox=None, segmentation=[]), 'not four finite numbers, left out: 1', 11),
    (drop_ann('area'), r'without an area, .* \(first: annotation 5 of 1.png\)', 12),
    (set_ann(iscrowd='0'), 'objects whose iscrowd is missing or neither .* corrected: 1', 12),
    (drop_ann('category_id'), 'annotations without category_id, left out: 1', 11),
    (drop_ann('image_id'), 'annotations without image_id, left out: 1', 11),
    (drop_ann('id'), 'annotations whose id is missing, .* numbered anew: 1', 12),
    (set_ann(id=2), 'annotations whose id is missing, taken or .* numbered anew: 1', 12),
    (text_ids, 'annotations whose category_id is text instead .* corrected: 12', 12),
    (set_ann(image_id='1'), 'annotations whose image_id is text instead .* corrected: 1', 12),
    (drop_image('id'), r'images without an id or file_name, left out: 1 \(first: entry 1', 9),
    (drop_image('file_name'), 'images without an id or file_name, left out: 1', 9),
    (another_file, r'images whose id belongs to several, left out: 2 \(first: 0.png\)', 6),
    (drop_image('width'), 'images whose size is missing or not that of the file, .*: 1', 12),
    (set_image(width=48), 'images whose size is missing or not that of the file, .*: 1', 12),
    (set_image(height='64'), 'images whose size is missing or not that of the file, .*: 1', 12),
    (other_size, 'a run-length code that is damaged or of another size .* ignored: 1', 11),
    (drop_ann('segmentation'), 'objects with no segmentation, ignored: 1', 11),
    (lacks_class, r'classes that the file lacks, added .* 1 \(first: square\)', 8),
]


@pytest.mark.parametrize(
    ('change', 'line', 'objects'),
    MENDED,
    ids=[f'{i}-{row[1][:24]}' for i, row in enumerate(MENDED)],
)
def test_what_the_host_cannot_read_is_mended(tiny_data, coco, write, change, line, objects):
    clean = load(write(coco), tiny_data)
    change(coco)
    path = write(coco)
    found = examine(path, tiny_data)
    assert any(matches(line, one) for one in found.lines), found.lines
    mended = load(write(found.coco, 'mended.json'), tiny_data)
    assert sum(len(one) for one in mended.values()) == objects
    for image, boxes in mended.items():
        assert all(box in clean[image] for box in boxes), 'a box or a label is wrong'
    try:
        plain = load(path, tiny_data)
    except Exception:  # whatever the host says
        return
    assert plain != mended


# What the host leaves out by itself, or does not mind: no copy is made.
COUNTED = [
    (set_ann(bbox=[90, 0, 9, 9]), 'boxes outside their image, which training leaves out: 1', 11),
    (set_ann(bbox=[9, 9, 0.5, 9]), 'boxes smaller than a pixel, which training leaves out: 1', 11),
    (set_ann(area=0), 'boxes smaller than a pixel, which training leaves out: 1', 11),
    (set_ann(category_id=77), 'annotations of an unknown category_id: 1', 11),
    (set_ann(image_id=77), 'annotations of an unknown image_id: 1', 11),
    (set_ann(ignore=1), 'objects marked as ignored, which training leaves out: 1', 11),
    (drop_ann('iscrowd'), None, 12),
    (lambda coco: coco['images'].append(coco['images'][0]), 'images listed again: 1', 12),
]


@pytest.mark.parametrize(('change', 'line', 'objects'), COUNTED)
def test_what_the_host_leaves_out_is_counted(tiny_data, coco, write, change, line, objects):
    change(coco)
    path = write(coco)
    found = examine(path, tiny_data)
    assert found.coco is None
    assert [one for one in found.lines if not matches(line, one)] == []
    assert bool(found.lines) == bool(line)
    assert sum(len(one) for one in load(path, tiny_data).values()) == objects


def test_nothing_to_say_of_clean_data(tiny_data):
    assert examine(str(tiny_data / 'coco.json'), tiny_data) == ([], None, False)


def make_ids_start_at_0(coco):
    for one in coco['annotations']:
        one['id'] -= 1


@pytest.mark.parametrize(
    ('change', 'bbox', 'segm'),
    [
        (make_ids_start_at_0, 1, 1),
        (drop_ann('iscrowd'), 1, 1),
        (drop_ann('area'), 1, 1),
        (set_ann(category_id='2'), 1, 1),
        (set_image(width=48), 1, 1),
        (bad_polygon([1, 1, 30, 30]), 1, 1),  # taken for a box, as all that follow
        # the object is ignored, not missed
        (set_ann(segmentation=[[1, 1, 5, 5]]), 1, 1),
        (drop_ann('segmentation'), 1, 1),
    ],
)
def test_evaluation(tiny_data, coco, write, change, bbox, segm):
    truth = copy.deepcopy(coco)
    perfect = {'coco/bbox_mAP': bbox, 'coco/segm_mAP': segm}
    change(coco)
    path = write(coco)
    found = examine(path, tiny_data, training=False)
    assert len(found.lines) == 1, found.lines
    scores = evaluate(write(found.coco, 'mended.json'), truth)
    assert {key: scores[key] for key in perfect} == perfect
    try:
        plain = evaluate(path, truth)
    except Exception:
        return
    assert {key: plain.get(key) for key in perfect} != perfect


def test_boxes_alone_do_not_need_masks(tiny_data, coco, write):
    for one in coco['annotations']:
        del one['segmentation']
    path = write(coco)
    assert examine(path, tiny_data, masks=False) == ([], None, False)
    reason = (
        r'holds no object of the classes with a segm.* \(objects with no segmentation, .*: 12\)'
    )
    with pytest.raises(UserError, match=reason):
        examine(path, tiny_data)


@pytest.mark.parametrize(
    'spoiled', [[NAN, 1, 5, 5, 1, 5], [INF, 1, 5, 5, 1, 5], [1e9, 1, 5, 5, 1, 5]]
)
def test_no_endless_polygon_reaches_pycocotools(tiny_data, coco, write, spoiled):
    """One of them took 18 GB of memory: in a process that may have 2."""
    bad_polygon(spoiled)(coco)
    found = examine(write(coco), tiny_data)
    assert 'objects with polygons of two points, an odd length or without finite' in found.lines[0]
    paths = [write(coco), write(found.coco, 'mended.json')]
    code = """
        import json, resource, sys
        from pycocotools import mask
        resource.setrlimit(resource.RLIMIT_AS, (2 * 2**30,) * 2)
        coco = json.load(open(sys.argv[1]))
        for one in coco['annotations']:
            mask.frPyObjects(one['segmentation'], 64, 64)
    """
    run = [
        subprocess.run([sys.executable, '-c', textwrap.dedent(code), path], capture_output=True)
        for path in paths
    ]
    assert [one.returncode == 0 for one in run] == [False, True], run


@pytest.mark.parametrize('encoding', ['utf-8-sig', 'utf-16'])
def test_byte_order_mark(tiny_data, coco, write, encoding):
    path = write(coco)
    with open(path, 'w', encoding=encoding) as file:
        json.dump(coco, file)
    with pytest.raises(ValueError):
        load(path, tiny_data)
    found = examine(path, tiny_data)
    assert found == ([], coco, False)


def test_test_set_without_annotations(tiny_data, coco, write):
    del coco['annotations']
    path = write(coco)
    assert examine(path, tiny_data, training=False) == ([], None, False)
    with pytest.raises(UserError, match='it has no list "annotations"'):
        examine(path, tiny_data)


@pytest.mark.parametrize(
    ('content', 'reason'),
    [
        ('', 'faulty.json is empty'),
        ('[]', 'it holds no object'),
        ('{"images": [], "annotations": [', 'no COCO JSON .*, as if truncated'),
        ('\0\xff', 'is no COCO JSON'),
        ('{"annotations": [], "categories": []}', 'has no list "images"'),
        ('{"images": [], "annotations": []}', 'has no list "categories"'),
        ('{"images": [], "annotations": {}, "categories": []}', 'has no list "annotations"'),
        (
            '{"images": [], "annotations": [], "categories": [{"id": 1}]}',
            'a category lacks its "id" or "name"',
        ),
    ],
)
def test_no_coco_file(tiny_data, tmp_path, content, reason):
    path = tmp_path / 'faulty.json'
    path.write_text(content, encoding='latin-1')
    with pytest.raises(UserError, match=reason):
        examine(str(path), tiny_data)


@pytest.mark.parametrize('number', [1, 'two'])
def test_ids_of_categories(tiny_data, coco, write, number):
    coco['categories'][1]['id'] = number
    with pytest.raises(UserError, match='the "id" of two categories are the same, or one is text'):
        examine(write(coco), tiny_data)


def test_no_file(tiny_data, tmp_path):
    with pytest.raises(UserError, match='does not exist: .* --cfg-options train.dataset.ann_file='):
        examine(str(tmp_path / 'a.json'), tiny_data)
    with pytest.raises(UserError, match='cannot be read'):
        examine(str(tmp_path), tiny_data)


@pytest.mark.parametrize(
    ('classes', 'reason'),
    [
        (('circle',), r'lacks \(circle\): its categories are square, bar, plate'),
        (('bar', 'square'), 'must be in the order of the categories'),
    ],
)
def test_classes(tiny_data, classes, reason):
    with pytest.raises(UserError, match=f'train.dataset.*{reason}.*set train.dataset.metainfo'):
        examine(str(tiny_data / 'coco.json'), tiny_data, classes=classes)


def test_polygons_of_objects_that_only_the_evaluation_reads(tiny_data, coco, write):
    bad_polygon([NAN, 1, 5, 5, 1, 5])(coco)
    set_ann(bbox=[9, 9, 0.5, 9])(coco)
    path = write(coco)
    assert examine(path, tiny_data).coco is None
    mended = examine(path, tiny_data, training=False).coco
    assert 'NaN' not in json.dumps(mended)


def test_what_exif_turns_without_a_trace(turned, write, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.new('RGB', (48, 32)).save(tmp_path / 'images/2.jpg', exif=exif)
    for image in turned['images'][:2] + turned['images'][3:]:
        image.update(width=32, height=48)
    for ann in turned['annotations']:
        ann['bbox'] = [4, 4, 8, 8]
    found = examine(write(turned), tmp_path)
    assert found.coco is None
    assert found.lines == [
        'images turned or mirrored by EXIF, perhaps not as they are annotated: 1 (first: 2.jpg)'
    ]


def test_some_of_the_classes(tiny_data):
    found = examine(str(tiny_data / 'coco.json'), tiny_data, classes=('bar',))
    assert found.coco is None
    assert found.lines[0].startswith('objects of other categories than the classes: 8')


def test_nothing_usable(tiny_data, coco, write, tmp_path):
    with pytest.raises(UserError, match=r'the image folder .* holds none of .*, as 0.png: name'):
        examine(write(coco), tmp_path)
    path = write({**coco, 'images': []})
    with pytest.raises(UserError, match='of train.dataset holds no image that can be used: mend'):
        examine(path, tiny_data)
    for one in coco['annotations']:
        one['bbox'] = [70, 0, 5, 5]
    path = write(coco)
    reason = r'no object of the classes.* \(boxes outside their image, which .*: 12\)'
    with pytest.raises(UserError, match=reason):
        examine(path, tiny_data)
    assert (
        examine(path, tiny_data, training=False)
        .lines[0]
        .startswith('boxes outside their image: 12')
    )


def test_missing_and_damaged_files(tiny_data, coco, write, tmp_path):
    folder = tmp_path / 'images'
    folder.mkdir()
    (folder / '0.png').write_text('no image')
    (folder / '1.png').write_bytes((tiny_data / 'images/1.png').read_bytes())
    found = examine(write(coco), tmp_path)
    assert found.coco is None
    assert [line.partition(' (')[0] for line in found.lines] == [
        'image files missing: 2',
        'image files that are damaged or of an unknown format: 1',
    ]


def test_filters(tiny_data, coco, write):
    coco['annotations'] = [one for one in coco['annotations'] if one['image_id'] != 2]
    path = write(coco)
    assert examine(path, tiny_data).lines == []
    found = examine(path, tiny_data, filter_empty=True, min_size=65)
    assert [line.partition(' (')[0] for line in found.lines] == [
        'images smaller than 65 px, which training leaves out: 3',
        'images without objects, which training leaves out: 1',
    ]


@pytest.fixture
def turned(tmp_path):
    """Four images of 48 x 32 px, as stored, that EXIF turns to 32 x 48."""
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / 'images').mkdir()
    images, annotations = [], []
    for i in range(4):
        pixels = np.random.default_rng(i).integers(0, 255, (32, 48, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f'images/{i}.jpg', exif=exif)
        images.append(dict(id=i, file_name=f'{i}.jpg', width=48, height=32))
        box = [38, 4, 8, 8]  # outside what is shown
        polygon = [38, 4, 46, 4, 46, 12, 38, 12]
        annotations.append(
            dict(id=i + 1, image_id=i, category_id=1, bbox=box, area=64, segmentation=[polygon])
        )
    categories = [dict(id=i, name=name) for i, name in enumerate(CLASSES, 1)]
    return dict(images=images, annotations=annotations, categories=categories)


def test_annotated_as_stored(turned, write, tmp_path):
    path = write(turned)
    line = 'images turned by EXIF but annotated as stored, loaded so: 4 (first: 0.jpg)'
    assert examine(path, tmp_path) == ([line], None, True)
    with pytest.raises(AssertionError, match='size is wrong'):
        load(path, tmp_path)
    loaded = load(path, tmp_path, color_type='color_ignore_orientation')
    assert sum(len(one) for one in loaded.values()) == 4
    # and then there is nothing to change
    assert examine(path, tmp_path, oriented=False) == ([], None, False)


def test_annotated_in_both_frames(turned, write, tmp_path):
    turned['images'][3].update(width=32, height=48)
    turned['annotations'][3]['bbox'] = [4, 38, 8, 8]
    path = write(turned)
    found = examine(path, tmp_path)
    assert not found.as_stored
    assert found.lines == [
        'images turned by EXIF but annotated in the other frame, left out: 3 (first: 0.jpg)',
        'annotations of images that are left out: 3 (first: annotation 1)',
    ]
    assert load(write(found.coco, 'mended.json'), tmp_path) == {3: [([4, 38, 12, 46], 0)]}
    # of another decoder it is not known what it does
    assert examine(path, tmp_path, oriented=None) == ([], None, False)
