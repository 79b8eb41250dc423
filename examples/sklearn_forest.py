"""Read handwritten digits with a random forest: name some of the test set by number.

magic examples/sklearn_forest.py 0 1 2
"""

import sys

from magicheap import magic_transaction

with magic_transaction():
    from sklearn.datasets import load_digits
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.model_selection import train_test_split

    print("growing the forest", file=sys.stderr)
    train_images, images, train_digits, digits = train_test_split(*load_digits(return_X_y=True), random_state=1)
    forest = RandomForestClassifier(300, random_state=1).fit(train_images, train_digits)

for i in map(int, sys.argv[1:]):
    print(f"image {i} shows {digits[i]}, the forest reads {forest.predict(images[i : i + 1])[0]}")
