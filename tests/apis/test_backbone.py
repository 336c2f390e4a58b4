import copy
import importlib
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from mmvitx.apis import backbone, use_backbone
from mmvitx.apis.backbone import Tried
from mmvitx.errors import UserError


def read(name):
    """Read a config of an installed host, as ``mmdet::detr/...``."""
    host, _, path = name.partition('::')
    module = pytest.importorskip(host)
    return Config.fromfile(
        Path(importlib.import_module(module.__name__).__file__).parent / '.mim/configs' / path
    )


@pytest.fixture
def untried(monkeypatch):
    """Take every model as passed, for tests of what else is changed."""
    monkeypatch.setattr(backbone, '_try', lambda *args: Tried())


R50 = 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'
RETINANET = 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'
DETR = 'mmdet::detr/detr_r50_8xb2-150e_coco.py'
DEEPLAB = 'mmseg::deeplabv3plus/deeplabv3plus_r50-d8_4xb2-40k_cityscapes-512x1024.py'
VIT = 'mmseg::vit/vit_deit-b16-ln_mln_upernet_8xb2-160k_ade20k-512x512.py'
SEGFORMER = 'mmseg::segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py'
RESNET = 'mmpretrain::resnet/resnet50_8xb32_in1k.py'


@pytest.mark.usefixtures('untried')
class TestLevels:
    def test_all(self):
        cfg = read(R50)
        lines = use_backbone(cfg, 'coat_lite_small')
        assert cfg.model.backbone == dict(
            type='mmvitx.CoaT',
            arch='lite_small',
            out_indices=(0, 1, 2, 3),
            drop_path_rate=0.0,
            init_cfg=dict(type='Pretrained', checkpoint='mmvitx://coat_lite_small'),
        )
        assert cfg.model.neck.in_channels == [64, 128, 320, 512]
        assert 'model.neck.in_channels: [256, 512, 1024, 2048] -> [64, 128, 320, 512]' in lines

    def test_start_level(self):
        cfg = read(RETINANET)
        use_backbone(cfg, 'cait_xxs24')
        assert cfg.model.backbone.out_indices == (1, 2, 3)
        assert (cfg.model.neck.start_level, cfg.model.neck.in_channels) == (0, [192, 192, 192])

    def test_neck_from_coarse_to_fine(self):
        cfg = read('mmdet::yolo/yolov3_d53_8xb8-320-273e_coco.py')
        use_backbone(cfg, 'coat_lite_tiny')
        assert cfg.model.backbone.out_indices == (1, 2, 3)
        assert cfg.model.neck.in_channels == [320, 256, 128]

    def test_heads_without_neck(self):
        cfg = read('mmdet::mask2former/mask2former_r50_8xb2-lsj-50e_coco.py')
        use_backbone(cfg, 'coat_small')
        assert cfg.model.panoptic_head.in_channels == [152, 320, 320, 320]
        assert cfg.model.panoptic_head.feat_channels == 256

    def test_dilated(self):
        cfg = read(DEEPLAB)  # strides 4, 8, 8, 8, of which the heads read the first and last two
        use_backbone(cfg, 'coat_lite_tiny')
        assert cfg.model.neck.groups == [[0], [1, 2], [1, 2, 3]]
        head, auxiliary = cfg.model.decode_head, cfg.model.auxiliary_head
        assert (head.c1_in_channels, head.in_index, head.in_channels) == (64, 2, 128 + 256 + 320)
        assert (auxiliary.in_index, auxiliary.in_channels) == (1, 128 + 256)

    def test_heads_of_regions_without_neck(self):
        cfg = read('mmdet::faster_rcnn/faster-rcnn_r50-caffe-dc5_1x_coco.py')  # stride 16
        use_backbone(cfg, 'coat_lite_tiny')
        assert cfg.model.neck.groups == [[0, 1]]
        roi_head = cfg.model.roi_head
        assert cfg.model.rpn_head.in_channels == roi_head.bbox_head.in_channels == 256 + 320
        assert roi_head.bbox_roi_extractor.out_channels == 256 + 320

    def test_plain_transformer_with_its_neck(self):
        cfg = read(VIT)
        use_backbone(cfg, 'coat_lite_tiny')
        assert 'neck' not in cfg.model
        assert cfg.model.decode_head.in_channels == [64, 128, 256, 320]
        assert cfg.model.auxiliary_head.in_channels == 320  # in_index=3

    def test_neck_that_hands_maps_on(self):
        cfg = read('mmseg::fastfcn/fastfcn_r50-d32_jpu_aspp_4xb2-80k_cityscapes-512x1024.py')
        use_backbone(cfg, 'coat_lite_tiny')
        assert cfg.model.neck.in_channels == (128, 256, 320)
        assert cfg.model.auxiliary_head.in_channels == 256
        assert cfg.model.decode_head.in_channels == 2048  # JPU's own

    def test_neck_without_widths(self):
        cfg = read('mmdet::reid/reid_r50_8xb32-6e_mot15train80_test-mot15val20.py')
        use_backbone(cfg, 'coat_lite_tiny')
        assert cfg.model.head.in_channels == 320

    def test_backbone_that_needs_a_kernel(self):
        cfg = read('mmdet::dcn/faster-rcnn_r50-dconv-c3-c5_fpn_1x_coco.py')
        use_backbone(cfg, 'coat_lite_tiny')
        assert cfg.model.neck.in_channels == [64, 128, 256, 320]

    def test_detector_in_a_wrapper(self):
        cfg = read(
            'mmdet::soft_teacher/soft-teacher_faster-rcnn_r50-caffe_fpn_180k_semi-0.1-coco.py'
        )
        use_backbone(cfg, 'coat_lite_tiny')
        assert cfg.model.detector.backbone.type == 'mmvitx.CoaT'
        mean = cfg.model.data_preprocessor.data_preprocessor.mean
        assert mean == cfg.model.detector.data_preprocessor.mean == [123.675, 116.28, 103.53]

    def test_classifier(self):
        cfg = read(RESNET)
        use_backbone(cfg, 'crossvit_9_dagger')
        assert cfg.model.backbone.out_type == 'cls_token'
        assert 'neck' not in cfg.model
        assert cfg.model.head.in_channels == 128 + 256

    def test_ours_for_ours(self):
        cfg = read(R50)
        use_backbone(cfg, 'coat_small')
        use_backbone(cfg, 'cait_xxs24')
        assert cfg.model.backbone.arch == 'xxs24'
        assert cfg.model.neck.in_channels == [192] * 4


class TestTrial:
    def test_levels_that_nothing_reads_are_dropped(self):
        cfg = read('mmdet::centernet/centernet_r18_8xb16-crop512-140e_coco.py')
        use_backbone(cfg, 'crossvit_9')
        assert cfg.model.backbone.out_indices == (3,)
        assert cfg.model.neck.in_channels == 256

    def test_widths_that_cannot_be_traced(self):
        cfg = read('mmdet::faster_rcnn/faster-rcnn_r50-caffe-c4_ms-1x_coco.py')
        before = copy.deepcopy(cfg.to_dict())
        with pytest.raises(UserError, match='cannot take another backbone: its widths cannot be'):
            use_backbone(cfg, 'coat_lite_tiny')
        assert cfg.to_dict() == before

    def test_more_than_maps_is_asked_of_the_backbone(self):
        with pytest.raises(UserError, match='num_branch'):
            use_backbone(
                read('mmdet::tridentnet/tridentnet_r50-caffe_1x_coco.py'), 'coat_lite_tiny'
            )

    def test_what_cannot_be_tried_here_is_said(self):
        cfg = read('mmdet::carafe/faster-rcnn_r50_fpn-carafe_1x_coco.py')  # an operator for GPUs
        lines = use_backbone(cfg, 'coat_lite_tiny')
        assert 'not tried on a batch: RuntimeError: carafe_forward' in lines[-1]
        assert cfg.model.backbone.type == 'mmvitx.CoaT'

    def test_head_of_two_tokens(self):
        cfg = read('mmpretrain::deit/deit-small-distilled_4xb256_in1k.py')
        use_backbone(cfg, 'coat_lite_tiny')
        assert cfg.model.head.type == 'LinearClsHead'
        assert cfg.model.head.num_classes == 1000

    def test_leaves_the_random_state(self):
        torch.manual_seed(0)
        expected = torch.rand(1)
        torch.manual_seed(0)
        use_backbone(read(RESNET), 'coat_lite_tiny')
        assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize(
    ('config', 'reason'),
    [
        (
            'mmdet::cornernet/cornernet_hourglass104_8xb6-210e-mstest_coco.py',
            r'repeated strides, \[4, 4\]',
        ),
        ('mmseg::setr/setr_vit-l-mla_8xb1-160k_ade20k-512x512.py', 'repeated strides'),
        (
            'mmdet::deepsort/deepsort_faster-rcnn_r50_fpn_8xb2-4e_mot17train_test-mot17test.py',
            'two backbones, model.detector.backbone and model.reid.backbone',
        ),
        ('mmseg::unet/unet-s5-d16_fcn_4xb4-40k_drive-64x64.py', 'stride 2, and the finest here is'),
        ('mmdet::common/ms_3x_coco.py', 'has no model.backbone'),
    ],
)
def test_refused(config, reason, untried):
    with pytest.raises(UserError, match=reason):
        use_backbone(read(config), 'coat_lite_tiny')


def test_unknown_name():
    with pytest.raises(UserError, match="no model is called 'coat_smal'"):
        use_backbone(read(R50), 'coat_smal')


@pytest.mark.usefixtures('untried')
class TestWeights:
    def test_of_another_size(self):
        cfg = read(R50)
        use_backbone(cfg, 'cait_s36')  # published at 384 only
        assert cfg.model.backbone.init_cfg.checkpoint == 'mmvitx://cait_s36_384'

    def test_by_their_name(self):
        cfg = read(R50)
        use_backbone(cfg, 'cait_xxs24_384')
        assert cfg.model.backbone.arch == 'xxs24'
        assert cfg.model.backbone.init_cfg.checkpoint == 'mmvitx://cait_xxs24_384'

    def test_none(self):
        cfg = read(R50)
        use_backbone(cfg, 'coat_small', pretrained=False)
        assert 'init_cfg' not in cfg.model.backbone

    def test_of_the_old_model_are_removed(self):
        cfg = read('mmdet::cityscapes/faster-rcnn_r50_fpn_1x_cityscapes.py')
        lines = use_backbone(cfg, 'coat_small')
        assert cfg.load_from is None
        assert any(line.startswith('load_from: ') for line in lines)
        cfg = read(DEEPLAB)
        use_backbone(cfg, 'coat_small')
        assert 'pretrained' not in cfg.model

    def test_the_package_is_imported_with_the_config(self):
        cfg = read('mmdet::convnext/mask-rcnn_convnext-t-p4-w7_fpn_amp-ms-crop-3x_coco.py')
        use_backbone(cfg, 'coat_small')
        assert cfg.custom_imports.imports == ['mmpretrain.models', 'mmvitx']


@pytest.mark.usefixtures('untried')
class TestPreprocessing:
    @pytest.mark.parametrize(
        'config',
        [
            'mmdet::faster_rcnn/faster-rcnn_r50-caffe_fpn_1x_coco.py',  # BGR, std 1
            'mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py',  # BGR
            'mmdet::yolox/yolox_tiny_8xb8-300e_coco.py',  # none
        ],
    )
    def test_becomes_that_of_the_weights(self, config):
        cfg = read(config)
        use_backbone(cfg, 'coat_lite_tiny')
        preprocessor = cfg.model.data_preprocessor
        assert preprocessor.mean == [123.675, 116.28, 103.53]
        assert preprocessor.std == [58.395, 57.12, 57.375]
        assert preprocessor.bgr_to_rgb is True

    def test_of_classifiers(self):
        cfg = read('mmpretrain::mobilenet_v3/mobilenet-v3-large_8xb128_in1k.py')
        cfg.data_preprocessor.update(mean=[0.0] * 3, to_rgb=False)
        use_backbone(cfg, 'coat_lite_tiny')
        assert cfg.data_preprocessor.mean == [123.675, 116.28, 103.53]
        assert cfg.data_preprocessor.to_rgb is True
        assert cfg.data_preprocessor.num_classes == 1000

    def test_of_transforms_that_fill_with_the_mean(self):
        cfg = read('mmdet::yolo/yolov3_d53_8xb8-320-273e_coco.py')
        use_backbone(cfg, 'coat_lite_tiny')
        expand = cfg.train_dataloader.dataset.pipeline[2]
        assert expand.type == 'Expand'
        assert expand.mean == [123.675, 116.28, 103.53]


@pytest.mark.usefixtures('untried')
class TestOptimizer:
    def test_sgd_becomes_the_family_s(self):
        cfg = read(R50)
        use_backbone(cfg, 'coat_small')
        wrapper = cfg.optim_wrapper
        assert (wrapper.optimizer.type, wrapper.optimizer.lr) == ('AdamW', 1e-4)
        assert wrapper.paramwise_cfg.norm_decay_mult == 0.0
        assert 'constructor' not in wrapper
        assert len(cfg.param_scheduler) == 2  # it had a warm-up

    def test_layer_decay(self):
        cfg = read(R50)
        use_backbone(cfg, 'crossvit_18')
        assert cfg.optim_wrapper.constructor == 'mmvitx.LayerDecayOptimWrapperConstructor'
        assert cfg.optim_wrapper.paramwise_cfg.layer_decay_rate == 0.75

    def test_no_layer_decay_from_scratch(self):
        cfg = read(R50)
        use_backbone(cfg, 'crossvit_18', pretrained=False)
        assert 'constructor' not in cfg.optim_wrapper

    def test_rate_for_the_batch_and_warm_up(self):
        cfg = read(DEEPLAB)  # 4 GPUs with 2 images
        use_backbone(cfg, 'coat_small')
        assert cfg.optim_wrapper.optimizer.lr == 3e-5
        warmup, poly = cfg.param_scheduler
        assert (warmup.type, warmup.end) == ('LinearLR', 1500)
        assert poly.eta_min == pytest.approx(1e-4 * 3e-5 / 0.01)

    def test_not_a_transformer_s(self):
        cfg = read('mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py')
        use_backbone(cfg, 'coat_small')
        assert cfg.optim_wrapper.optimizer.lr == 1.6e-3  # 1e-4 for 16 images; it had 0.004
        assert cfg.optim_wrapper.paramwise_cfg.bypass_duplicate

    def test_a_transformer_s_is_kept(self):
        cfg = read(SEGFORMER)
        old = copy.deepcopy(cfg.optim_wrapper.to_dict())
        use_backbone(cfg, 'coat_small')
        assert cfg.optim_wrapper.optimizer == old['optimizer']
        assert cfg.optim_wrapper.paramwise_cfg.custom_keys['head'] == dict(lr_mult=10.0)

    def test_with_a_rate_for_the_backbone_is_kept(self):
        cfg = read(DETR)
        use_backbone(cfg, 'cait_xxs24')
        keys = cfg.optim_wrapper.paramwise_cfg.custom_keys
        assert cfg.optim_wrapper.optimizer.lr == 1e-4
        assert keys['backbone'].lr_mult == 0.1
        assert keys['backbone.pos_embed'] == dict(lr_mult=0.1, decay_mult=0.0)
        assert 'constructor' not in cfg.optim_wrapper

    def test_constructor_of_the_old_backbone(self):
        cfg = read('mmdet::convnext/mask-rcnn_convnext-t-p4-w7_fpn_amp-ms-crop-3x_coco.py')
        use_backbone(cfg, 'coat_small')
        assert cfg.optim_wrapper.type == 'AmpOptimWrapper'
        assert not {'constructor', 'decay_rate'} & {
            *cfg.optim_wrapper,
            *cfg.optim_wrapper.paramwise_cfg,
        }

    def test_keep_optimizer(self):
        cfg = read(R50)
        old = copy.deepcopy(cfg.optim_wrapper.to_dict())
        use_backbone(cfg, 'cait_xxs24', keep_optimizer=True)
        assert cfg.optim_wrapper.to_dict() == old
