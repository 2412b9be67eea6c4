"""What outputs of a model have to be, to be an answer. A copy of this file lies in packages for Linux."""


class NotAnAnswer(ValueError):
    """The outputs cannot be right. The message goes on from the name of the model: "gives no scores"."""
