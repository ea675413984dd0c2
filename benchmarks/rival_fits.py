"""Fits of other packages, each in a process whose PYTHONPATH begins with that package's folder.

    python rival_fits.py METHOD ROWS.npz ANSWERS.npz SEED [EPOCHS...]

ROWS holds x (n, D) in [0, 1], y (n,) with -1 for rows without a label, and test_x. ANSWERS gets
predicted (m,), a class or a cluster of each test row. EPOCHS are zero, one or two numbers,
one for each stage of the method.
"""

import sys
from typing import Any

import numpy as np
import torch

REPEATS = 100  # of labelled rows of ssiVAE
LIBRARIES: list[Any] = []  # their definitions last as long as the objects


def import_torchvision() -> None:
    """Import torchvision beside a torch that it was not compiled for.

    Its kernels can't be loaded there and its import fails on their names. The packages here use
    pictures' grids and downloads of it only.
    """
    try:
        import torchvision
    except RuntimeError:
        for name in [name for name in sys.modules if name.startswith("torchvision")]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "DEF")
        for kernel in ("nms", "qnms"):
            library.define(f"{kernel}(Tensor dets, Tensor scores, float threshold) -> Tensor")
        LIBRARIES.append(library)
        import torchvision  # noqa: F401


def clustpy(method: str, rows: dict[str, Any], seed: int, epochs: tuple[int, int]) -> Any:
    """DEC, IDEC, DCN, VaDE or N2D of ClustPy, with its networks and default weights."""
    import_torchvision()
    import clustpy.deep

    budget = {"pretrain_epochs": epochs[0], "random_state": seed}
    K = len(np.unique(rows["y"][rows["y"] >= 0]))
    if method != "N2D":
        fit = getattr(clustpy.deep, method)(K, clustering_epochs=epochs[1], **budget)
        return fit.fit(rows["x"]).predict(rows["test_x"])
    # t-SNE has no map for new rows, and takes hours on all: the autoencoder of the training rows
    # goes first, then the manifold and the mixture are fitted to the test rows
    network = clustpy.deep.get_trained_network(
        data=rows["x"],
        n_epochs=epochs[0],
        batch_size=256,
        random_state=np.random.RandomState(seed),
    )
    fit = clustpy.deep.N2D(K, neural_network=network, manifold_params={"n_components": 2}, **budget)
    return fit.fit(rows["test_x"]).labels_


def pyroved(rows: dict[str, Any], seed: int, epochs: int) -> Any:
    """ssiVAE without invariances: M2 with two layers of 128, summed over the classes.

    Its trainer takes a batch of labelled rows after so many of unlabelled ones that both end
    together, which is one in an epoch of 100 labels; the labelled rows are repeated.
    """
    import_torchvision()
    import pyroved

    x, y, test = (torch.from_numpy(rows[name]) for name in ("x", "y", "test_x"))
    K = int(y.max()) + 1
    # without invariances the networks of images and of rows of numbers are the same
    model = pyroved.models.ssiVAE((x.shape[1],), latent_dim=10, num_classes=K, seed=seed)
    trainer = pyroved.trainers.auxSVItrainer(model, task="classification", seed=seed)
    named = y >= 0
    labels = torch.nn.functional.one_hot(y[named], K).float()
    sup = (x[named].repeat(REPEATS, 1), labels.repeat(REPEATS, 1))
    loaders = pyroved.utils.init_ssvae_dataloaders(x[~named], sup, sup, batch_size=200)
    for _ in range(epochs):
        trainer.step(*loaders[:2], aux_loss_multiplier=50)
    return model.classifier(test).numpy()


def scikit_learn(method: str, rows: dict[str, Any], seed: int) -> Any:
    """Label spreading over ten neighbors, or self-training of a softmax regression."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.semi_supervised import LabelSpreading, SelfTrainingClassifier

    if method == "label spreading":
        fit: Any = LabelSpreading(kernel="knn", n_neighbors=10)
    else:
        fit = SelfTrainingClassifier(LogisticRegression(max_iter=1000, random_state=seed))
    return fit.fit(rows["x"], rows["y"]).predict(rows["test_x"])


def main() -> None:
    """Fit one method, and write the answers."""
    method, rows_file, answers_file, seed, *epochs = sys.argv[1:]
    torch.set_num_threads(1)
    rows = dict(np.load(rows_file))
    counts = [int(one) for one in epochs]
    if method == "ssiVAE":
        predicted = pyroved(rows, int(seed), counts[0])
    elif counts:
        predicted = clustpy(method, rows, int(seed), (counts[0], counts[-1]))
    else:
        predicted = scikit_learn(method, rows, int(seed))
    np.savez(answers_file, predicted=np.asarray(predicted))


if __name__ == "__main__":
    main()
