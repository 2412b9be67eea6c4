"""Names that are reserved in a language."""

# Keywords of Java and Kotlin, which cannot be part of a package name, and the names of our packages.
KOTLIN_PACKAGES = frozenset(
    """abstract as assert boolean break byte case catch char class const continue default do double else enum extends
    false final finally float for fun goto if implements import in instanceof int interface is long native new null
    object package private protected public return short static strictfp super switch synchronized this throw throws
    transient true try typealias typeof val var void volatile when while
    benchmark""".split()
)

# Invalid names of a Swift module: keywords, and the modules and types that our sources use.
SWIFT_MODULES = frozenset(
    """Any as associatedtype break case catch class continue default defer deinit do else enum extension fallthrough
    false fileprivate for func guard if import in init inout internal is let nil operator precedencegroup private
    protocol public repeat rethrows return self Self static struct subscript super switch throw throws true try
    typealias var where while Type Protocol
    Accelerate CoreFoundation CoreGraphics CoreML CoreText CoreVideo CryptoKit Darwin Dispatch Foundation ImageIO
    ObjectiveC OnnxRuntimeBindings Swift UIKit VideoToolbox XCTest onnxruntime
    Box ClassMap ClassShare Detection Findings Mask Model ModelRunner Output Pixels Prediction Verdict""".split()
)

# Members of every Swift type. A case of an enumeration cannot have these names, even in backquotes.
SWIFT_MEMBERS = frozenset(
    ["self", "Self", "Type", "Protocol", "init", "allCases", "rawValue", "hashValue", "tolerances"]
)
