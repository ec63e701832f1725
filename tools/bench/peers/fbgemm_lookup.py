"""FBGEMM's table-batched embedding on the CPU: sums of rows of the base alone, no delta."""

from peer import batches, config, serve

import fbgemm_gpu
import torch
from fbgemm_gpu.split_embedding_configs import SparseType
from fbgemm_gpu.split_table_batched_embeddings_ops_common import BoundsCheckMode, EmbeddingLocation
from fbgemm_gpu.split_table_batched_embeddings_ops_inference import IntNBitTableBatchedEmbeddingBagsCodegen
from fbgemm_gpu.split_table_batched_embeddings_ops_training import ComputeDevice, SplitTableBatchedEmbeddingBagsCodegen

torch.set_num_threads(config["threads"])
V, D, ids = config["rows"], config["dim"], torch.from_numpy(batches())
offsets = torch.arange(0, ids.shape[1] + 1, config["perBag"])


def inference():
    tables = IntNBitTableBatchedEmbeddingBagsCodegen(
        [("table", V, D, SparseType.FP32, EmbeddingLocation.HOST)],
        device="cpu",
        output_dtype=SparseType.FP32,
        bounds_check_mode=BoundsCheckMode.NONE,
    )
    tables.fill_random_weights()
    places, ends = ids.int(), offsets.int()
    return lambda batch: tables(places[batch], ends)


def training():
    tables = SplitTableBatchedEmbeddingBagsCodegen(
        [(V, D, EmbeddingLocation.HOST, ComputeDevice.CPU)],
        output_dtype=SparseType.FP32,
        bounds_check_mode=BoundsCheckMode.NONE,
    )
    tables.init_embedding_weights_uniform(-0.1, 0.1)
    places = ids.long()
    return lambda batch: tables(places[batch], offsets)


def variant(make):
    work = None

    def lookup(batch):
        nonlocal work
        work = work or make()
        with torch.no_grad():  # FBGEMM has no CPU kernels for inference mode
            work(batch)

    return lookup


serve(
    {"training class, no_grad": variant(training), "inference class, int32 ids": variant(inference)},
    FBGEMM=fbgemm_gpu.__version__,
    PyTorch=torch.__version__,
)
