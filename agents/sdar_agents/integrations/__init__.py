"""The methods of this package inside other people's trainers."""
