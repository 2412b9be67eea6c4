import Foundation

/// What cannot be used, and why.
public struct ModelError: Error, CustomStringConvertible, LocalizedError, Sendable {
    public let description: String

    public var errorDescription: String? { description }

    init(_ description: String) {
        self.description = description
    }
}
